// A validator of JSON Schema, by definition and slowly: what the compiled schemas are held against. json_schema_test
// holds it against jsonschema's verdicts.
#pragma once

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "tokenizer/utf8.h"

namespace glimpse::testing {

class JsonValidator {
 public:
  explicit JsonValidator(const nlohmann::ordered_json& root) : root_(root) {}
  bool valid(const nlohmann::ordered_json& value) const { return valid(value, root_); }

 private:
  using Json = nlohmann::ordered_json;

  static std::wstring wide(const std::string& text) {
    std::wstring result;
    for (size_t i = 0; i < text.size();) {
      const Utf8Char c = utf8_at(text, i);
      result.push_back(static_cast<wchar_t>(c.code_point));
      i += c.n_bytes;
    }
    return result;
  }
  static bool is_integer(const Json& v) {
    return v.is_number_integer() || (v.is_number_float() && v.get<double>() == std::floor(v.get<double>()));
  }
  static bool has_type(const Json& v, const std::string& type) {
    if (type == "integer") return is_integer(v);
    if (type == "number") return v.is_number();
    if (type == "string") return v.is_string();
    if (type == "boolean") return v.is_boolean();
    if (type == "null") return v.is_null();
    return type == "array" ? v.is_array() : v.is_object();
  }

  bool valid(const Json& v, const Json& s) const {
    if (s.is_boolean()) return s.get<bool>();
    const auto holds = [&](const char* key, auto check) { return !s.contains(key) || check(s[key]); };
    const auto count = [&](const char* key) {
      return std::count_if(s[key].begin(), s[key].end(), [&](const Json& one) { return valid(v, one); });
    };
    if (!holds("$ref", [&](const Json& r) {
          const std::string pointer = r.get<std::string>().substr(1);
          return valid(v, root_.at(Json::json_pointer(pointer)));
        })) {
      return false;
    }
    if (s.contains("anyOf") && count("anyOf") == 0) return false;
    if (s.contains("oneOf") && count("oneOf") != 1) return false;
    if (s.contains("allOf") && count("allOf") != static_cast<ptrdiff_t>(s["allOf"].size())) return false;
    const auto same = [&](const Json& c) { return nlohmann::json(c) == nlohmann::json(v); };  // without order
    if (!holds("const", same)) return false;
    if (!holds("enum", [&](const Json& e) { return std::any_of(e.begin(), e.end(), same); })) return false;
    if (!holds("type", [&](const Json& t) {
          if (t.is_string()) return has_type(v, t);
          return std::any_of(t.begin(), t.end(), [&](const Json& one) { return has_type(v, one); });
        })) {
      return false;
    }
    if (v.is_number() && !valid_number(v.get<double>(), holds)) return false;
    if (v.is_string() && !valid_string(v.get<std::string>(), holds)) return false;
    if (v.is_array() && !valid_array(v, s, holds)) return false;
    return !v.is_object() || valid_object(v, s);
  }

  template <typename Holds>
  static bool valid_number(double x, Holds holds) {
    return holds("minimum", [&](const Json& b) { return x >= b.get<double>(); }) &&
           holds("maximum", [&](const Json& b) { return x <= b.get<double>(); }) &&
           holds("exclusiveMinimum", [&](const Json& b) { return x > b.get<double>(); }) &&
           holds("exclusiveMaximum", [&](const Json& b) { return x < b.get<double>(); }) &&
           holds("multipleOf", [&](const Json& m) {
             const double n = x / m.get<double>();
             return std::abs(n - std::round(n)) < 1e-9;
           });
  }
  template <typename Holds>
  static bool valid_string(const std::string& text, Holds holds) {
    const std::wstring characters = wide(text);
    return holds("minLength", [&](const Json& n) { return characters.size() >= n.get<size_t>(); }) &&
           holds("maxLength", [&](const Json& n) { return characters.size() <= n.get<size_t>(); }) &&
           holds("pattern", [&](const Json& p) { return std::regex_search(characters, std::wregex(wide(p))); });
  }
  template <typename Holds>
  bool valid_array(const Json& v, const Json& s, Holds holds) const {
    if (!holds("minItems", [&](const Json& n) { return v.size() >= n.get<size_t>(); }) ||
        !holds("maxItems", [&](const Json& n) { return v.size() <= n.get<size_t>(); })) {
      return false;
    }
    const size_t n_prefix = s.contains("prefixItems") ? s["prefixItems"].size() : 0;
    for (size_t i = 0; i < v.size(); ++i) {
      if (i < n_prefix ? !valid(v[i], s["prefixItems"][i]) : s.contains("items") && !valid(v[i], s["items"]))
        return false;
    }
    return true;
  }
  bool valid_object(const Json& v, const Json& s) const {
    if (s.contains("required")) {
      for (const Json& name : s["required"]) {
        if (!v.contains(name.get<std::string>())) return false;
      }
    }
    for (const auto& [name, member] : v.items()) {
      if (s.contains("properties") && s["properties"].contains(name)) {
        if (!valid(member, s["properties"][name])) return false;
      } else if (s.contains("additionalProperties") && !valid(member, s["additionalProperties"])) {
        return false;
      }
    }
    return true;
  }

  const nlohmann::ordered_json& root_;
};

}  // namespace glimpse::testing
