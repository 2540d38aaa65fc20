// Metadata values: names of types, and lookups that are liberal about how a writer stored a number.
#include <algorithm>
#include <cmath>
#include <limits>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

// The single value of T that a scalar, a one-value array or an array of equal values amounts to; else nullptr.
template <typename T>
const T* single(const GgufValue& value) {
  if (const T* scalar = std::get_if<T>(&value.data)) return scalar;
  const auto* values = std::get_if<std::vector<T>>(&value.data);
  if (values == nullptr || values->empty()) return nullptr;
  const bool equal = std::all_of(values->begin() + 1, values->end(), [&](const T& v) { return v == values->front(); });
  return equal ? &values->front() : nullptr;
}

GgufType scalar_type(const GgufValue& value) {
  return value.is_array() ? value.element_type : value.type;
}

bool is_absent(const GgufValue* value) {
  return value == nullptr || (value->is_array() && value->array_size() == 0);
}

Error wrong_type(const std::string& path, std::string_view key, const GgufValue& value, const char* expected) {
  return make_error(ErrorCode::kCorrupt, "%s: key %s is %s; expected %s", path, quoted(key), value.describe_type(),
                    expected);
}

Error missing(const std::string& path, std::string_view key, const char* expected) {
  return make_error(ErrorCode::kNotFound, "%s: key %s is missing; expected %s", path, quoted(key), expected);
}

template <typename From, typename To>
void convert(const std::vector<From>* from, std::vector<To>& to) {
  if (from == nullptr) return;
  to.reserve(from->size());
  for (const From& v : *from) to.push_back(static_cast<To>(v));
}

constexpr const char* kUint = "an unsigned integer";
constexpr const char* kFloat = "a number";
constexpr const char* kString = "a string";

}  // namespace

const char* gguf_type_name(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
      return "uint8";
    case GgufType::kInt8:
      return "int8";
    case GgufType::kUint16:
      return "uint16";
    case GgufType::kInt16:
      return "int16";
    case GgufType::kUint32:
      return "uint32";
    case GgufType::kInt32:
      return "int32";
    case GgufType::kFloat32:
      return "float32";
    case GgufType::kBool:
      return "bool";
    case GgufType::kString:
      return "string";
    case GgufType::kArray:
      return "array";
    case GgufType::kUint64:
      return "uint64";
    case GgufType::kInt64:
      return "int64";
    case GgufType::kFloat64:
      return "float64";
  }
  return "unknown";
}

uint64_t gguf_type_bytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

size_t GgufValue::array_size() const {
  if (const auto* v = std::get_if<std::vector<uint64_t>>(&data)) return v->size();
  if (const auto* v = std::get_if<std::vector<int64_t>>(&data)) return v->size();
  if (const auto* v = std::get_if<std::vector<double>>(&data)) return v->size();
  if (const auto* v = std::get_if<std::vector<std::string>>(&data)) return v->size();
  return 0;
}

std::string GgufValue::describe_type() const {
  if (!is_array()) return gguf_type_name(type);
  return format("array of %d %s", array_size(), gguf_type_name(element_type));
}

Result<std::optional<uint64_t>> GgufFile::optional_uint(std::string_view key) const {
  const GgufValue* value = find(key);
  if (is_absent(value)) return std::optional<uint64_t>();
  if (scalar_type(*value) != GgufType::kBool) {
    if (const auto* v = single<uint64_t>(*value)) return std::optional<uint64_t>(*v);
    if (const auto* v = single<int64_t>(*value)) {
      if (*v >= 0) return std::optional<uint64_t>(static_cast<uint64_t>(*v));
      return make_error(ErrorCode::kCorrupt, "%s: key %s is %d; expected %s", path_, quoted(key), *v, kUint);
    }
  }
  return wrong_type(path_, key, *value, kUint);
}

Result<std::optional<double>> GgufFile::optional_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (is_absent(value)) return std::optional<double>();
  if (scalar_type(*value) != GgufType::kBool) {
    if (const auto* v = single<double>(*value)) return std::optional<double>(*v);
    if (const auto* v = single<uint64_t>(*value)) return std::optional<double>(static_cast<double>(*v));
    if (const auto* v = single<int64_t>(*value)) return std::optional<double>(static_cast<double>(*v));
  }
  return wrong_type(path_, key, *value, kFloat);
}

Result<std::optional<bool>> GgufFile::optional_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (is_absent(value)) return std::optional<bool>();
  if (const auto* v = single<uint64_t>(*value); v != nullptr && *v <= 1) return std::optional<bool>(*v == 1);
  if (const auto* v = single<int64_t>(*value); v != nullptr && (*v == 0 || *v == 1))
    return std::optional<bool>(*v == 1);
  return wrong_type(path_, key, *value, "a bool");
}

Result<std::optional<std::string>> GgufFile::optional_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (is_absent(value)) return std::optional<std::string>();
  if (const auto* v = single<std::string>(*value)) return std::optional<std::string>(*v);
  return wrong_type(path_, key, *value, kString);
}

Result<std::vector<int64_t>> GgufFile::int_array(std::string_view key) const {
  std::vector<int64_t> out;
  const GgufValue* value = find(key);
  if (is_absent(value)) return out;
  const auto* one_signed = std::get_if<int64_t>(&value->data);
  const auto* one_unsigned = std::get_if<uint64_t>(&value->data);
  const auto* many_signed = std::get_if<std::vector<int64_t>>(&value->data);
  const auto* many_unsigned = std::get_if<std::vector<uint64_t>>(&value->data);
  if (one_signed != nullptr) return std::vector<int64_t>{*one_signed};
  if (many_signed != nullptr) return *many_signed;
  if (one_unsigned == nullptr && many_unsigned == nullptr) {
    return wrong_type(path_, key, *value, "an array of integers");
  }
  const std::span<const uint64_t> numbers =
      one_unsigned != nullptr ? std::span(one_unsigned, 1) : std::span<const uint64_t>(*many_unsigned);
  out.reserve(numbers.size());
  for (uint64_t number : numbers) {
    if (number > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "%s: key %s contains %d, which does not fit a signed 64-bit integer",
                        path_, quoted(key), number);
    }
    out.push_back(static_cast<int64_t>(number));
  }
  return out;
}

Result<std::vector<double>> GgufFile::float_array(std::string_view key) const {
  std::vector<double> out;
  const GgufValue* value = find(key);
  if (is_absent(value)) return out;
  const bool number = scalar_type(*value) != GgufType::kBool && scalar_type(*value) != GgufType::kString;
  if (!number) return wrong_type(path_, key, *value, "an array of numbers");
  if (const auto* v = std::get_if<double>(&value->data)) out.push_back(*v);
  if (const auto* v = std::get_if<uint64_t>(&value->data)) out.push_back(static_cast<double>(*v));
  if (const auto* v = std::get_if<int64_t>(&value->data)) out.push_back(static_cast<double>(*v));
  convert(std::get_if<std::vector<double>>(&value->data), out);
  convert(std::get_if<std::vector<uint64_t>>(&value->data), out);
  convert(std::get_if<std::vector<int64_t>>(&value->data), out);
  return out;
}

Result<uint64_t> GgufFile::require_uint(std::string_view key) const {
  GLIMPSE_ASSIGN(const auto value, optional_uint(key));
  if (!value) return missing(path_, key, kUint);
  return *value;
}

Result<double> GgufFile::require_float(std::string_view key) const {
  GLIMPSE_ASSIGN(const auto value, optional_float(key));
  if (!value) return missing(path_, key, kFloat);
  return *value;
}

Result<std::string> GgufFile::require_string(std::string_view key) const {
  GLIMPSE_ASSIGN(auto value, optional_string(key));
  if (!value) return missing(path_, key, kString);
  return *std::move(value);
}

const std::vector<std::string>* GgufFile::string_array(std::string_view key) const {
  const GgufValue* value = find(key);
  return value == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&value->data);
}

}  // namespace glimpse
