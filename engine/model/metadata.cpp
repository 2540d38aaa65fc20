#include "engine/model/metadata.h"

#include <string_view>
#include <type_traits>
#include <variant>

namespace glimpse {
namespace {

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += format("\\u%04x", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

template <typename T>
std::string scalar(const T& value, GgufType type) {
  if constexpr (std::is_same_v<T, std::string>) {
    return value;
  } else if constexpr (std::is_same_v<T, double>) {
    return format("%.9g", value);  // tells all 32-bit floats apart
  } else if (type == GgufType::kBool) {
    return value != 0 ? "true" : "false";
  } else {
    return format("%d", value);
  }
}

std::string list_of(const auto& entries, GgufType type) {
  std::string list;
  const auto add = [&](const auto& entry) {
    if (!list.empty()) list += ", ";
    using T = std::remove_cvref_t<decltype(entry)>;
    list += std::is_same_v<T, std::string> ? json_string(scalar(entry, type)) : scalar(entry, type);
  };
  for (size_t i = 0; i < entries.size(); ++i) {
    if constexpr (requires { std::visit(add, entries[i]); }) {
      std::visit(add, entries[i]);
    } else {
      add(entries[i]);
    }
  }
  return "[" + list + "]";
}

std::string text_of(const GgufValue& value) {
  if (value.is_array() && value.array_size() > kMostListed) return value.describe_type();
  return std::visit(
      [&](const auto& data) {
        using T = std::remove_cvref_t<decltype(data)>;
        if constexpr (std::is_same_v<T, std::string> || std::is_arithmetic_v<T>) {
          return scalar(data, value.type);
        } else {
          return list_of(data, value.element_type);
        }
      },
      value.data);
}

}  // namespace

Metadata read_metadata(const GgufFile& file) {
  Metadata metadata;
  for (const std::string& key : file.keys()) metadata.emplace(key, text_of(*file.find(key)));
  return metadata;
}

}  // namespace glimpse
