// Metadata values: names of types, and lookups that are liberal about how a writer stored a number.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "engine/base/enum_names.h"
#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_number.h"
#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

// The number that a scalar, a one-value array or an array of equal values amounts to.
std::optional<GgufNumber> single_number(const GgufValue& value) {
  if (const auto* v = std::get_if<uint64_t>(&value.data)) return *v;
  if (const auto* v = std::get_if<int64_t>(&value.data)) return *v;
  if (const auto* v = std::get_if<double>(&value.data)) return *v;
  const auto* numbers = std::get_if<GgufNumbers>(&value.data);
  if (numbers == nullptr || numbers->size() == 0) return std::nullopt;
  const GgufNumber first = (*numbers)[0];
  for (size_t i = 1; i < numbers->size(); ++i) {
    if ((*numbers)[i] != first) return std::nullopt;
  }
  return first;
}

const std::string* single_text(const GgufValue& value) {
  if (const auto* text = std::get_if<std::string>(&value.data)) return text;
  const auto* texts = std::get_if<std::vector<std::string>>(&value.data);
  if (texts == nullptr || texts->empty()) return nullptr;
  const bool equal = std::all_of(texts->begin() + 1, texts->end(), [&](const auto& t) { return t == texts->front(); });
  return equal ? &texts->front() : nullptr;
}

double as_double(const GgufNumber& number) {
  return std::visit([](auto v) { return static_cast<double>(v); }, number);
}

Status check_widened(const std::string& path, std::string_view key, const GgufValue& value) {
  if (value.array_size() <= GgufFile::kMostWidened) return {};
  return make_error(ErrorCode::kTooLarge, "%s: key %s is %s; the limit is %llu", path.c_str(), quoted(key).c_str(),
                    value.describe_type().c_str(), uint64_t{GgufFile::kMostWidened});
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

constexpr const char* kUint = "an unsigned integer";
constexpr const char* kFloat = "a number";
constexpr const char* kString = "a string";

}  // namespace

const char* gguf_type_name(GgufType type) {
  constexpr const char* kNames[] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                    "bool",  "string", "array",  "uint64", "int64",  "float64"};
  return enum_name<GgufType::kFloat64>(kNames, type);
}

uint64_t gguf_type_bytes(GgufType type) {
  constexpr uint8_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};  // of strings and arrays none is known
  const auto i = static_cast<size_t>(type);
  return i < std::size(kBytes) ? kBytes[i] : 0;
}

GgufNumbers::GgufNumbers(GgufType type, std::vector<std::byte> bytes)
    : type_(type), size_(bytes.size() / std::max<uint64_t>(gguf_type_bytes(type), 1)), bytes_(std::move(bytes)) {}

GgufNumber GgufNumbers::operator[](size_t i) const {
  GgufNumber number = uint64_t{0};
  visit_number_type(type_, [&](auto stored) {
    std::memcpy(&stored, bytes_.data() + i * sizeof stored, sizeof stored);
    number = static_cast<GgufWide<decltype(stored)>>(stored);
  });
  return number;
}

Result<GgufNumbers> GgufNumbers::narrow(GgufType type, std::span<const int64_t> numbers) {
  std::vector<std::byte> bytes;
  bytes.reserve(numbers.size() * gguf_type_bytes(type));
  for (const int64_t number : numbers) {
    if (!put_number(bytes, type, number)) {
      return make_error(ErrorCode::kInvalidArgument, "%lld does not fit %s", static_cast<long long>(number),
                        gguf_type_name(type));
    }
  }
  return GgufNumbers(type, std::move(bytes));
}

size_t GgufValue::array_size() const {
  if (const auto* v = std::get_if<GgufNumbers>(&data)) return v->size();
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
  const auto number = single_number(*value);
  if (!number || scalar_type(*value) == GgufType::kBool) return wrong_type(path_, key, *value, kUint);
  if (const auto* v = std::get_if<uint64_t>(&*number)) return std::optional<uint64_t>(*v);
  const auto* v = std::get_if<int64_t>(&*number);
  if (v == nullptr) return wrong_type(path_, key, *value, kUint);
  if (*v >= 0) return std::optional<uint64_t>(static_cast<uint64_t>(*v));
  return make_error(ErrorCode::kCorrupt, "%s: key %s is %lld; expected %s", path_.c_str(), quoted(key).c_str(),
                    static_cast<long long>(*v), kUint);
}

Result<std::optional<double>> GgufFile::optional_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (is_absent(value)) return std::optional<double>();
  const auto number = single_number(*value);
  if (!number || scalar_type(*value) == GgufType::kBool) return wrong_type(path_, key, *value, kFloat);
  return std::optional<double>(as_double(*number));
}

Result<std::optional<bool>> GgufFile::optional_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (is_absent(value)) return std::optional<bool>();
  const auto number = single_number(*value);
  const bool whole = number && !std::holds_alternative<double>(*number);
  if (!whole || (as_double(*number) != 0 && as_double(*number) != 1)) return wrong_type(path_, key, *value, "a bool");
  return std::optional<bool>(as_double(*number) == 1);
}

Result<std::optional<std::string>> GgufFile::optional_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (is_absent(value)) return std::optional<std::string>();
  if (const auto* v = single_text(*value)) return std::optional<std::string>(*v);
  return wrong_type(path_, key, *value, kString);
}

Result<std::vector<int64_t>> GgufFile::int_array(std::string_view key) const {
  std::vector<int64_t> out;
  const GgufValue* value = find(key);
  if (is_absent(value)) return out;
  const GgufType type = scalar_type(*value);
  if (type == GgufType::kString || type == GgufType::kFloat32 || type == GgufType::kFloat64) {
    return wrong_type(path_, key, *value, "an array of integers");
  }
  GLIMPSE_TRY(check_widened(path_, key, *value));
  const auto* numbers = std::get_if<GgufNumbers>(&value->data);
  const size_t n = numbers == nullptr ? 1 : numbers->size();
  out.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    const GgufNumber number = numbers == nullptr ? *single_number(*value) : (*numbers)[i];
    const auto* large = std::get_if<uint64_t>(&number);
    if (large != nullptr && *large > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "%s: key %s contains %llu, which does not fit a signed 64-bit integer",
                        path_.c_str(), quoted(key).c_str(), *large);
    }
    out.push_back(std::visit([](auto v) { return static_cast<int64_t>(v); }, number));
  }
  return out;
}

Result<std::vector<double>> GgufFile::float_array(std::string_view key) const {
  std::vector<double> out;
  const GgufValue* value = find(key);
  if (is_absent(value)) return out;
  const GgufType type = scalar_type(*value);
  if (type == GgufType::kBool || type == GgufType::kString) {
    return wrong_type(path_, key, *value, "an array of numbers");
  }
  GLIMPSE_TRY(check_widened(path_, key, *value));
  const auto* numbers = std::get_if<GgufNumbers>(&value->data);
  if (numbers == nullptr) return std::vector<double>{as_double(*single_number(*value))};
  out.reserve(numbers->size());
  for (size_t i = 0; i < numbers->size(); ++i) out.push_back(as_double((*numbers)[i]));
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
