#include "loaders/gguf/gguf_writer.h"

#include <cstring>
#include <set>
#include <string_view>
#include <type_traits>
#include <utility>

#include "engine/base/checked.h"
#include "loaders/gguf/gguf_number.h"
#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

using Bytes = std::vector<std::byte>;

void put_bytes(Bytes& out, const void* data, size_t n_bytes) {
  const size_t at = out.size();
  out.resize(at + n_bytes);
  if (n_bytes > 0) std::memcpy(out.data() + at, data, n_bytes);
}

template <typename T>
void put(Bytes& out, T value) {
  static_assert(std::is_arithmetic_v<T>);
  put_bytes(out, &value, sizeof value);
}

void put_string(Bytes& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  put_bytes(out, text.data(), text.size());
}

void put_type(Bytes& out, GgufType type) {
  put(out, static_cast<uint32_t>(type));
}

// Appends the value; false when what it holds is not what its type says.
struct ValueEncoder {
  Bytes& out;
  const GgufValue& value;

  bool operator()(const std::string& text) const {
    put_string(out, text);
    return value.type == GgufType::kString;
  }
  bool operator()(const std::vector<std::string>& texts) const {
    put<uint64_t>(out, texts.size());
    for (const std::string& text : texts) put_string(out, text);
    return value.is_array() && value.element_type == GgufType::kString;
  }
  bool operator()(const GgufNumbers& numbers) const {
    put<uint64_t>(out, numbers.size());
    put_bytes(out, numbers.bytes().data(), numbers.bytes().size());
    return value.is_array() && value.element_type == numbers.type() && gguf_type_bytes(numbers.type()) > 0;
  }
  template <typename T>
  bool operator()(const T& number) const {
    return put_number(out, value.type, number);
  }
};

Status check_name(const std::string& name, const char* kind) {
  if (name.empty()) return make_error(ErrorCode::kInvalidArgument, "a %s without a name", kind);
  if (name.find('\0') != std::string::npos) {
    return make_error(ErrorCode::kInvalidArgument, "%s %s contains a zero byte", kind, quoted(name));
  }
  return {};
}

}  // namespace

void GgufWriter::refuse_late(const std::string& name) {
  if (state_ == State::kCollecting) return;
  misuse_ = make_error(ErrorCode::kInternal, "%s is added after GgufWriter::begin", quoted(name));
}

Bytes& GgufWriter::add_entry(const std::string& key) {
  refuse_late(key);
  entries_.push_back({key, {}});
  return entries_.back().encoded;
}

template <typename T>
void GgufWriter::add_scalar(const std::string& key, GgufType type, T value) {
  Bytes& out = add_entry(key);
  put_type(out, type);
  put(out, value);
  if constexpr (std::is_unsigned_v<T>) set_alignment(key, type, value);
}

template <typename T, typename Values>
void GgufWriter::add_array(const std::string& key, GgufType type, const Values& values) {
  if (values.empty()) return;
  Bytes& out = add_entry(key);
  put_type(out, GgufType::kArray);
  put_type(out, type);
  put<uint64_t>(out, values.size());
  for (const auto& value : values) {
    if constexpr (std::is_same_v<T, std::string>) {
      put_string(out, value);
    } else {
      put(out, static_cast<T>(value));
    }
  }
}

// An alignment of any other type than uint32 is refused by every reader: 0 makes begin() refuse it too.
void GgufWriter::set_alignment(const std::string& key, GgufType type, uint64_t value) {
  if (key == "general.alignment") alignment_ = type == GgufType::kUint32 ? value : 0;
}

void GgufWriter::add_uint32(const std::string& key, uint32_t value) {
  add_scalar(key, GgufType::kUint32, value);
}
void GgufWriter::add_int32(const std::string& key, int32_t value) {
  add_scalar(key, GgufType::kInt32, value);
}
void GgufWriter::add_uint64(const std::string& key, uint64_t value) {
  add_scalar(key, GgufType::kUint64, value);
}
void GgufWriter::add_float32(const std::string& key, float value) {
  add_scalar(key, GgufType::kFloat32, value);
}
void GgufWriter::add_bool(const std::string& key, bool value) {
  add_scalar(key, GgufType::kBool, static_cast<uint8_t>(value));
}

void GgufWriter::add_string(const std::string& key, const std::string& value) {
  if (value.empty()) return;
  Bytes& out = add_entry(key);
  put_type(out, GgufType::kString);
  put_string(out, value);
}

void GgufWriter::add_int32_array(const std::string& key, const std::vector<int32_t>& values) {
  add_array<int32_t>(key, GgufType::kInt32, values);
}
void GgufWriter::add_float32_array(const std::string& key, const std::vector<float>& values) {
  add_array<float>(key, GgufType::kFloat32, values);
}
void GgufWriter::add_bool_array(const std::string& key, const std::vector<bool>& values) {
  add_array<uint8_t>(key, GgufType::kBool, values);
}
void GgufWriter::add_string_array(const std::string& key, const std::vector<std::string>& values) {
  add_array<std::string>(key, GgufType::kString, values);
}

void GgufWriter::add_value(const std::string& key, const GgufValue& value) {
  Bytes& out = add_entry(key);
  put_type(out, value.type);
  if (value.is_array()) put_type(out, value.element_type);
  if (!std::visit(ValueEncoder{out, value}, value.data)) {
    misuse_ = make_error(ErrorCode::kInvalidArgument, "the value of key %s does not fit its type (%s)", quoted(key),
                         value.describe_type());
  }
  const auto* number = std::get_if<uint64_t>(&value.data);
  set_alignment(key, value.type, number != nullptr ? *number : 0);
}

void GgufWriter::declare_tensor(const std::string& name, DType type, const std::vector<uint64_t>& dims) {
  refuse_late(name);
  tensors_.push_back({name, type, dims, 0});
}

Status GgufWriter::check_entries() const {
  std::set<std::string_view> keys;
  for (const Entry& entry : entries_) {
    GLIMPSE_TRY(check_name(entry.key, "key"));
    if (!keys.insert(entry.key).second) {
      return make_error(ErrorCode::kInvalidArgument, "key %s is added twice", quoted(entry.key));
    }
  }
  if (alignment_ == 0 || (alignment_ & (alignment_ - 1)) != 0 || alignment_ > kGgufMaxAlignment) {
    return make_error(ErrorCode::kInvalidArgument, "general.alignment must be a uint32 and a power of two up to %d",
                      kGgufMaxAlignment);
  }
  return {};
}

// Checks every declaration and computes sizes.
Status GgufWriter::check_tensors() {
  std::set<std::string_view> names;
  uint64_t total = 0;
  for (Tensor& tensor : tensors_) {
    GLIMPSE_TRY(check_name(tensor.name, "tensor"));
    const std::string name = quoted(tensor.name);
    if (tensor.name.size() > kGgufMaxTensorName) {
      return make_error(ErrorCode::kInvalidArgument, "tensor %s: its name has %d bytes; the limit is %d", name,
                        tensor.name.size(), kGgufMaxTensorName);
    }
    if (!names.insert(tensor.name).second) {
      return make_error(ErrorCode::kInvalidArgument, "tensor %s is declared twice", name);
    }
    if (tensor.dims.empty() || tensor.dims.size() > kGgufMaxDims) {
      return make_error(ErrorCode::kInvalidArgument, "tensor %s has %d dimensions; 1 to %d are possible", name,
                        tensor.dims.size(), kGgufMaxDims);
    }
    if (find_dtype(static_cast<uint32_t>(tensor.type)) == nullptr) {
      return make_error(ErrorCode::kInvalidArgument, "tensor %s has an unknown type", name);
    }
    const DTypeInfo& info = dtype_info(tensor.type);
    if (tensor.dims[0] % info.block_length != 0) {
      return make_error(ErrorCode::kInvalidArgument, "tensor %s: rows of %d are not whole %s blocks of %d", name,
                        tensor.dims[0], info.name, info.block_length);
    }
    auto n_bytes = checked_mul(tensor.dims[0] / info.block_length, info.block_bytes);
    for (size_t i = 1; i < tensor.dims.size() && n_bytes; ++i) n_bytes = checked_mul(*n_bytes, tensor.dims[i]);
    const auto padded = n_bytes ? checked_align_up(*n_bytes, alignment_) : std::nullopt;
    const auto sum = padded ? checked_add(total, *padded) : std::nullopt;
    if (!sum || *sum > INT64_MAX) {
      return make_error(ErrorCode::kInvalidArgument, "tensor %s is too large", name);
    }
    tensor.n_bytes = *n_bytes;
    total = *sum;
  }
  return {};
}

Status GgufWriter::begin(const std::string& path, AtomicFileWriter::Existing existing) {
  if (state_ != State::kCollecting) return make_error(ErrorCode::kInternal, "GgufWriter::begin is called twice");
  if (misuse_) return *misuse_;
  GLIMPSE_TRY(check_entries());
  GLIMPSE_TRY(check_tensors());
  GLIMPSE_ASSIGN(file_, AtomicFileWriter::create(path, existing));

  Bytes out;
  put<uint32_t>(out, 0x46554747);  // "GGUF"
  put<uint32_t>(out, 3);
  put<uint64_t>(out, tensors_.size());
  put<uint64_t>(out, entries_.size());
  for (const Entry& entry : entries_) {
    put_string(out, entry.key);
    put_bytes(out, entry.encoded.data(), entry.encoded.size());
  }
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    put_string(out, tensor.name);
    put(out, static_cast<uint32_t>(tensor.dims.size()));
    for (uint64_t dim : tensor.dims) put(out, dim);
    put(out, static_cast<uint32_t>(tensor.type));
    put(out, offset);
    offset += *checked_align_up(tensor.n_bytes, alignment_);
  }
  // A file without tensors ends with its metadata: there is no data section to pad for.
  if (!tensors_.empty()) out.resize(*checked_align_up(out.size(), alignment_));
  GLIMPSE_TRY(file_.write(out));
  state_ = State::kWriting;
  return finish_tensors();
}

Status GgufWriter::finish_tensors() {
  while (current_ < tensors_.size() && current_bytes_ == tensors_[current_].n_bytes) {
    const Bytes zeros(*checked_align_up(current_bytes_, alignment_) - current_bytes_);
    GLIMPSE_TRY(file_.write(zeros));
    ++current_;
    current_bytes_ = 0;
  }
  return {};
}

Status GgufWriter::append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  if (state_ != State::kWriting) return make_error(ErrorCode::kInternal, "GgufWriter::append outside begin and commit");
  if (current_ == tensors_.size()) {
    return make_error(ErrorCode::kInternal, "%d bytes more than all declared tensors have", bytes.size());
  }
  const Tensor& tensor = tensors_[current_];
  if (bytes.size() > tensor.n_bytes - current_bytes_) {
    return make_error(ErrorCode::kInternal, "tensor %s: %d bytes at %d, but it was declared with %d",
                      quoted(tensor.name), bytes.size(), current_bytes_, tensor.n_bytes);
  }
  GLIMPSE_TRY(file_.write(bytes));
  current_bytes_ += bytes.size();
  return finish_tensors();
}

Status GgufWriter::commit() {
  if (state_ != State::kWriting) return make_error(ErrorCode::kInternal, "GgufWriter::commit without begin");
  if (misuse_) return *misuse_;
  if (current_ < tensors_.size()) {
    return make_error(ErrorCode::kInternal, "tensor %s has %d of its %d bytes; nothing is written",
                      quoted(tensors_[current_].name), current_bytes_, tensors_[current_].n_bytes);
  }
  GLIMPSE_TRY(file_.commit());
  state_ = State::kDone;
  return {};
}

}  // namespace glimpse
