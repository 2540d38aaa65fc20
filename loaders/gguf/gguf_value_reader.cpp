#include "loaders/gguf/gguf_value_reader.h"

#include <algorithm>
#include <utility>

#include "engine/base/aligned_buffer.h"
#include "loaders/gguf/gguf_number.h"
#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

// Arrays grow as they are read, from at most this many entries: a count that only the tensor data behind it makes
// plausible must not reserve gigabytes.
constexpr uint64_t kMaxReserve = uint64_t{1} << 18;

Result<GgufType> read_type(ByteReader& reader) {
  const uint64_t offset = reader.position();
  GLIMPSE_ASSIGN(const uint32_t id, reader.read_value<uint32_t>());
  if (id > static_cast<uint32_t>(GgufType::kFloat64)) {
    return make_error(ErrorCode::kCorrupt, "value type %d at offset %d; known types are 0 to 12", id, offset);
  }
  return static_cast<GgufType>(id);
}

Status read_number(ByteReader& reader, GgufValue& value) {
  Status status;
  visit_number_type(value.type, [&](auto stored) {
    const auto read = reader.read_value<decltype(stored)>();
    status = read.ok() ? Status() : read.error();
    if (!read.ok()) return;
    // A boolean is 1 whatever byte says so.
    const auto number = value.type == GgufType::kBool ? static_cast<decltype(stored)>(read.value() != 0) : read.value();
    value.data = static_cast<GgufWide<decltype(stored)>>(number);
  });
  return status;
}

// Grows as it is read, so that a file which ends early costs little.
Status read_numbers(ByteReader& reader, GgufValue& value, uint64_t count) {
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  std::vector<std::byte> bytes;
  const uint64_t n_bytes = count * gguf_type_bytes(value.element_type);
  while (bytes.size() < n_bytes) {
    const size_t at = bytes.size();
    const auto n = static_cast<size_t>(std::min<uint64_t>(n_bytes - at, std::max<uint64_t>(kPiece, at)));
    bytes.reserve(at + n);  // no more than that
    bytes.resize(at + n);
    GLIMPSE_TRY(reader.read(bytes.data() + at, n));
  }
  if (value.element_type == GgufType::kBool) {
    for (std::byte& flag : bytes) flag = std::byte{flag != std::byte{0}};
  }
  value.data.emplace<GgufNumbers>(value.element_type, std::move(bytes));
  return {};
}

Status read_strings(ByteReader& reader, GgufValue& value, uint64_t count, GgufBudget& budget) {
  auto& strings = value.data.emplace<std::vector<std::string>>();
  strings.reserve(std::min(count, kMaxReserve));
  for (uint64_t i = 0; i < count; ++i) {
    auto text = read_gguf_string(reader, budget);
    if (!text.ok()) {
      return with_context(std::move(text).error(), format("string %llu of %llu", i + 1, count));
    }
    strings.push_back(std::move(text).value());
  }
  return {};
}

Status read_array(ByteReader& reader, GgufValue& value, GgufBudget& budget) {
  GLIMPSE_ASSIGN(value.element_type, read_type(reader));
  if (value.element_type == GgufType::kArray) {
    return make_error(ErrorCode::kUnsupported, "an array of arrays, which neither glimpse nor llama.cpp reads");
  }
  GLIMPSE_ASSIGN(const uint64_t count, reader.read_value<uint64_t>());
  const char* type = gguf_type_name(value.element_type);
  if (count > kGgufMaxArrayCount) {
    return make_error(ErrorCode::kTooLarge, "an array of %d %s; the limit is %d", count, type, kGgufMaxArrayCount);
  }
  // A string needs at least its length.
  const uint64_t least = value.element_type == GgufType::kString ? 8 : gguf_type_bytes(value.element_type);
  if (count > reader.remaining() / least) {
    return make_error(ErrorCode::kTruncated, "an array of %d %s, but only %d bytes are left", count, type,
                      reader.remaining());
  }
  // What it takes in memory: the numbers as they are; a string its object, and its bytes beside it.
  const uint64_t each = value.element_type == GgufType::kString ? sizeof(std::string) : least;
  GLIMPSE_TRY(budget.take(count * each));
  return value.element_type == GgufType::kString ? read_strings(reader, value, count, budget)
                                                 : read_numbers(reader, value, count);
}

}  // namespace

Result<uint64_t> read_gguf_string_length(ByteReader& reader) {
  const uint64_t offset = reader.position();
  GLIMPSE_ASSIGN(const uint64_t length, reader.read_value<uint64_t>());
  if (length > kGgufMaxStringBytes) {
    return make_error(ErrorCode::kTooLarge, "a string of %d bytes at offset %d; the limit is %d", length, offset,
                      kGgufMaxStringBytes);
  }
  if (length > reader.remaining()) {
    return make_error(ErrorCode::kTruncated, "a string of %d bytes at offset %d, but only %d bytes are left", length,
                      offset, reader.remaining());
  }
  return length;
}

Status GgufBudget::take(uint64_t n_bytes) {
  constexpr uint64_t kUnasked = uint64_t{16} << 20;  // asking takes longer than reading a usual file's keys
  if (n_bytes > kGgufMaxMetadataBytes - taken_) {
    return make_error(ErrorCode::kTooLarge, "the metadata need %s of memory and more; the limit is %s",
                      byte_size(taken_ + n_bytes).c_str(), byte_size(kGgufMaxMetadataBytes).c_str());
  }
  taken_ += n_bytes;
  if (taken_ <= kUnasked) return {};
  if (available_ == 0) available_ = available_memory_bytes();
  if (taken_ <= available_) return {};
  return make_error(ErrorCode::kOutOfMemory, "the metadata need %s of memory, %s are available",
                    byte_size(taken_).c_str(), byte_size(available_).c_str());
}

Result<std::string> read_gguf_string(ByteReader& reader, GgufBudget& budget) {
  GLIMPSE_ASSIGN(const uint64_t length, read_gguf_string_length(reader));
  GLIMPSE_TRY(budget.take(length));
  std::string text(length, '\0');
  GLIMPSE_TRY(reader.read(text.data(), text.size()));
  return text;
}

Result<GgufValue> read_gguf_value(ByteReader& reader, GgufBudget& budget) {
  GgufValue value;
  GLIMPSE_ASSIGN(value.type, read_type(reader));
  if (value.type == GgufType::kArray) {
    GLIMPSE_TRY(read_array(reader, value, budget));
  } else if (value.type == GgufType::kString) {
    GLIMPSE_ASSIGN(value.data, read_gguf_string(reader, budget));
  } else {
    GLIMPSE_TRY(read_number(reader, value));
  }
  return value;
}

}  // namespace glimpse
