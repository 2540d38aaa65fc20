// Builds GGUF files byte by byte, right or wrong on purpose, independently of GgufWriter.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "loaders/gguf/gguf.h"
#include "tests/base/scratch_dir.h"

namespace glimpse::gguf_test {

/// The little-endian bytes of a number.
template <typename T>
std::string le(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
inline std::string str(const std::string& text) {
  return le<uint64_t>(text.size()) + text;
}
inline std::string type_id(GgufType type) {
  return le(static_cast<uint32_t>(type));
}

struct GgufBuilder {
  uint32_t version = 3;
  uint64_t alignment = 32;                    // of the layout; add the key with alignment_key()
  std::optional<uint64_t> n_keys, n_tensors;  // what the header claims, when that is not the truth
  std::string keys, infos, data;
  uint64_t keys_added = 0, tensors_added = 0;

  GgufBuilder& raw_key(const std::string& encoded) {
    keys += encoded;
    ++keys_added;
    return *this;
  }
  GgufBuilder& key(const std::string& name, GgufType type, const std::string& value) {
    return raw_key(str(name) + type_id(type) + value);
  }
  GgufBuilder& array(const std::string& name, GgufType type, uint64_t count, const std::string& values) {
    return key(name, GgufType::kArray, type_id(type) + le(count) + values);
  }
  GgufBuilder& u32(const std::string& name, uint32_t value) { return key(name, GgufType::kUint32, le(value)); }
  GgufBuilder& text(const std::string& name, const std::string& value) {
    return key(name, GgufType::kString, str(value));
  }
  GgufBuilder& alignment_key(uint32_t value) {
    alignment = value;
    return u32("general.alignment", value);
  }
  GgufBuilder& raw_info(const std::string& encoded) {
    infos += encoded;
    ++tensors_added;
    return *this;
  }
  /// Only the record: the data is what the caller makes it.
  GgufBuilder& info(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    std::string encoded = str(name) + le(static_cast<uint32_t>(dims.size()));
    for (uint64_t dim : dims) encoded += le(dim);
    return raw_info(encoded + le(type) + le(offset));
  }
  /// A record with its bytes at the next aligned offset.
  GgufBuilder& tensor(const std::string& name, const std::vector<uint64_t>& dims, DType type,
                      const std::string& bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    info(name, dims, static_cast<uint32_t>(type), data.size());
    data += bytes;
    return *this;
  }
  std::string build() const {
    std::string out = "GGUF" + le(version) + le(n_tensors.value_or(tensors_added)) + le(n_keys.value_or(keys_added));
    out += keys + infos;
    if (tensors_added == 0) return out + data;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

/// Every value type, arrays of each, and three tensors; the last one ends the file.
inline GgufBuilder sample() {
  GgufBuilder b;
  b.text("general.architecture", "test").key("a.u8", GgufType::kUint8, le<uint8_t>(200));
  b.key("a.i8", GgufType::kInt8, le<int8_t>(-3)).key("a.u16", GgufType::kUint16, le<uint16_t>(60000));
  b.key("a.i16", GgufType::kInt16, le<int16_t>(-300)).u32("a.u32", 4000000000u);
  b.key("a.i32", GgufType::kInt32, le<int32_t>(-70000)).key("a.f32", GgufType::kFloat32, le(1.5f));
  b.key("a.bool", GgufType::kBool, le<uint8_t>(7)).key("a.u64", GgufType::kUint64, le<uint64_t>(1ull << 63));
  b.key("a.i64", GgufType::kInt64, le<int64_t>(INT64_MIN)).key("a.f64", GgufType::kFloat64, le(-0.1));
  b.array("b.u8", GgufType::kUint8, 2, le<uint8_t>(1) + le<uint8_t>(255));
  b.array("b.i8", GgufType::kInt8, 2, le<int8_t>(1) + le<int8_t>(-1));
  b.array("b.u16", GgufType::kUint16, 1, le<uint16_t>(65535)).array("b.i16", GgufType::kInt16, 1, le<int16_t>(-2));
  b.array("b.u32", GgufType::kUint32, 2, le<uint32_t>(5) + le<uint32_t>(5));
  b.array("b.i32", GgufType::kInt32, 4, le<int32_t>(16) + le<int32_t>(24) + le<int32_t>(24) + le<int32_t>(0));
  b.array("b.f32", GgufType::kFloat32, 2, le(0.25f) + le(-2.0f)).array("b.bool", GgufType::kBool, 2, {"\0\x02", 2});
  b.array("b.string", GgufType::kString, 3, str("x") + str("") + str("a longer string than fits inline"));
  b.array("b.u64", GgufType::kUint64, 1, le<uint64_t>(UINT64_MAX)).array("b.i64", GgufType::kInt64, 1, le<int64_t>(-9));
  b.array("b.f64", GgufType::kFloat64, 1, le(1e300)).array("b.empty", GgufType::kInt32, 0, "");
  std::string weights(68, '\0');
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<char>(i);
  b.tensor("blk.0.weight", {32, 2}, DType::kQ8_0, weights);
  b.tensor("scale", {}, DType::kF32, le(3.0f));
  b.tensor("bias", {8}, DType::kF32, std::string(32, '\1'));
  return b;
}

inline Result<GgufFile> parse(const std::string& bytes) {
  return GgufFile::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "test.gguf");
}

inline testing::AssertionResult fails(const Error* error, ErrorCode code, const std::string& text) {
  if (error == nullptr) return testing::AssertionFailure() << "succeeded; expected " << error_code_name(code);
  if (error->code == code && error->message.find(text) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << error_code_name(error->code) << ": " << error->message << "\nexpected "
                                     << error_code_name(code) << " with '" << text << "'";
}
/// Whether the result is an error of this code whose message contains the text.
template <typename T>
testing::AssertionResult fails(const Result<T>& result, ErrorCode code, const std::string& text) {
  return fails(result.ok() ? nullptr : &result.error(), code, text);
}
inline testing::AssertionResult rejects(const GgufBuilder& b, ErrorCode code, const std::string& text) {
  return fails(parse(b.build()), code, text);
}

/// Reads everything the file offers, so that a sanitizer sees it.
inline uint64_t touch(const GgufFile& file) {
  uint64_t sum = file.n_bytes() + file.alignment() + file.version();
  for (const std::string& key : file.keys()) {
    const GgufValue* value = file.find(key);
    sum += value->array_size() + value->describe_type().size();
    sum += file.optional_uint(key).ok() + file.optional_float(key).ok() + file.optional_bool(key).ok();
    sum += file.optional_string(key).ok() + file.int_array(key).ok() + file.float_array(key).ok();
    if (const auto* strings = file.string_array(key)) {
      for (const std::string& text : *strings) sum += text.size();
    }
  }
  std::vector<std::byte> bytes;
  for (const GgufTensor& tensor : file.tensors()) {
    sum += tensor.describe().size() + tensor.row_bytes() + file.find_tensor(tensor.name)->n_elements();
    bytes.resize(tensor.n_bytes);
    if (file.read(tensor, 0, bytes).ok()) {
      for (std::byte b : bytes) sum += static_cast<uint64_t>(b);
    }
  }
  return sum;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_text(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}
inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(GLIMPSE_TEST_DIR) / "loaders" / "gguf_fixtures" / name;
}

class GgufFolderTest : public FolderTest {
 protected:
  std::string path(const std::string& name) const { return scratch_.file(name); }
  std::string save(const std::string& name, const std::string& bytes) const { return scratch_.write(name, bytes); }
  size_t n_files() const { return scratch_.list().size(); }
};

}  // namespace glimpse::gguf_test
