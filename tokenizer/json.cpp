#include "tokenizer/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <unordered_map>

#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

using Kind = JsonValue::Kind;

constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";  // of escapes
constexpr size_t kMostDigits = 400;  // of a number; Python refuses integers of more than 4300

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Whether a number is larger than any double; those too small for one are 0.
bool exceeds_double(std::string_view spelled) {
  double value = 0;
  const char* const end = spelled.data() + spelled.size();
  if (std::from_chars(spelled.data(), end, value).ec == std::errc()) return false;
  const size_t e = std::min(spelled.find_first_of("eE"), spelled.size());
  const std::string_view digits = spelled.substr(0, e);
  const size_t first = digits.find_first_of("123456789"), point = std::min(digits.find('.'), digits.size());
  if (first == std::string_view::npos) return false;
  int64_t power = 0;
  if (e < spelled.size()) {
    const char* const begin = spelled.data() + e + (spelled[e + 1] == '+' ? 2 : 1);
    if (std::from_chars(begin, end, power).ec != std::errc()) return *begin != '-';
  }
  return power > static_cast<int64_t>(first) - static_cast<int64_t>(point);  // -power may not be a number
}

class Parser {
 public:
  Parser(std::string_view text, const JsonRules& rules) : text_(text), rules_(rules) {}

  Result<JsonValue> document() {
    if (const size_t bad = find_invalid_utf8(text_); bad != std::string_view::npos) {
      at_ = bad;
      return error("it is not valid UTF-8");
    }
    JsonValue value;
    GLIMPSE_TRY(any(value, 0));
    if (next() != '\0' || at_ < text_.size()) return error("want the end, something follows");
    return value;
  }

 private:
  Error error(std::string_view what, ErrorCode code = ErrorCode::kInvalidArgument) const {
    const TextPlace place = text_place(text_, at_);
    return make_error(code, "JSON, line %d, column %d: %s%s", place.line, place.column,
                      at_ < text_.size() ? "" : "it ends too early, ", what);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  // Past white space.
  char next() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return peek();
  }
  bool take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  bool take_next(std::string_view what) {
    next();
    return take(what);
  }

  Status any(JsonValue& to, int depth) {
    const char c = next();
    if (depth > kMostJsonDepth) return error(format("nested more than %d deep", kMostJsonDepth), ErrorCode::kTooLarge);
    if (c == '{') return object(to, depth);
    if (c == '[') return array(to, depth);
    if (c == '"') {
      to.kind = Kind::kString;
      return string(to.text);
    }
    if (c == '-' || is_digit(c)) return number(to);
    to.kind = Kind::kBoolean;
    to.boolean = take("true");
    if (to.boolean || take("false")) return {};
    to.kind = Kind::kNull;
    return take("null") ? Status() : error("want a value");
  }

  Status array(JsonValue& to, int depth) {
    to.kind = Kind::kArray;
    ++at_;
    if (take_next("]")) return {};
    do {
      GLIMPSE_TRY(any(to.items.emplace_back(), depth + 1));
    } while (take_next(","));
    return take("]") ? Status() : error("want ',' or ']'");
  }

  Status object(JsonValue& to, int depth) {
    to.kind = Kind::kObject;
    ++at_;
    if (take_next("}")) return {};
    std::unordered_map<std::string, size_t> seen;
    do {
      if (next() != '"') return error("want the name of a member in quotes");
      const size_t begin = at_;
      std::string key;
      GLIMPSE_TRY(string(key));
      const auto [place, is_new] = seen.try_emplace(key, to.items.size());
      if (is_new) {
        to.keys.push_back(std::move(key));
        to.items.emplace_back();
      } else if (!rules_.repeated_keys) {
        at_ = begin;
        return error("a name that the object has already");
      }
      if (!take_next(":")) return error("want ':'");
      JsonValue& member = to.items[place->second] = {};
      GLIMPSE_TRY(any(member, depth + 1));
    } while (take_next(","));
    return take("}") ? Status() : error("want ',' or '}'");
  }

  Status number(JsonValue& to) {
    to.kind = Kind::kNumber;
    const size_t begin = at_;
    take("-");
    if (!take("0") && !digits()) return error("want a digit");
    if (take(".") && !digits()) return error("want a digit behind the point");
    if (take("e") || take("E")) {
      if (!take("+")) take("-");
      if (!digits()) return error("want a digit in the exponent");
    }
    to.text = text_.substr(begin, at_ - begin);
    if (rules_.any_number || (to.text.size() <= kMostDigits && !exceeds_double(to.text))) return {};
    at_ = begin;
    return error("a number that is too large");
  }

  bool digits() {
    const size_t begin = at_;
    while (is_digit(peek())) ++at_;
    return at_ > begin;
  }

  Status string(std::string& to) {
    ++at_;
    while (!take("\"")) {
      if (static_cast<unsigned char>(peek()) < 0x20) return error("want '\"': a string has no control characters");
      if (take("\\")) {
        const JsonEscape escape = json_escape(text_.substr(at_));
        at_ += escape.n_bytes;
        if (escape.fault != nullptr) return error(escape.fault);
        append_utf8(escape.code_point, to);
      } else {
        to.push_back(text_[at_++]);
      }
    }
    return {};
  }

  const std::string_view text_;
  const JsonRules rules_;
  size_t at_ = 0;
};

// A float as Python's repr() has it: the shortest digits that give it back, an exponent below 1e-4 and from 1e16 on.
std::string python_float(double value) {
  char buffer[40];
  const auto written = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(written.ptr - buffer));
  std::string out;
  if (text.starts_with('-')) {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  const std::string_view exponent_digits = text.substr(e + (text[e + 1] == '+' ? 2 : 1));
  std::from_chars(exponent_digits.data(), exponent_digits.data() + exponent_digits.size(), exponent);
  std::string digits(text.substr(0, 1));
  if (e > 2) digits += text.substr(2, e - 2);
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (digits.size() > 1) out.append(".").append(digits, 1);
    return out + format("e%s%02d", exponent < 0 ? "-" : "+", std::abs(exponent));
  }
  if (exponent < 0) return out.append("0.").append(static_cast<size_t>(-exponent - 1), '0').append(digits);
  const auto n_whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= n_whole) return out.append(digits).append(n_whole - digits.size(), '0').append(".0");
  return out.append(digits, 0, n_whole).append(".").append(digits, n_whole);
}

std::string python_number(const std::string& spelled) {
  if (spelled.find_first_of(".eE") == std::string::npos) return spelled == "-0" ? "0" : spelled;
  double value = 0;
  const auto parsed = std::from_chars(spelled.data(), spelled.data() + spelled.size(), value);
  if (parsed.ec != std::errc()) value = spelled.starts_with('-') ? -0.0 : 0.0;  // too small for a double
  return python_float(value);
}

void append_quoted(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (const size_t i = kMeanings.find(c); i != std::string_view::npos && c != '/') {
      out += '\\';
      out += kLetters[i];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += format("\\u%04x", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_value(const JsonValue& value, bool as_python, std::string& out) {
  switch (value.kind) {
    case Kind::kNull:
      out += "null";
      return;
    case Kind::kBoolean:
      out += value.boolean ? "true" : "false";
      return;
    case Kind::kNumber:
      out += as_python ? python_number(value.text) : value.text;
      return;
    case Kind::kString:
      append_quoted(value.text, out);
      return;
    case Kind::kArray:
    case Kind::kObject: {
      const bool is_object = value.is(Kind::kObject);
      out += is_object ? '{' : '[';
      for (size_t i = 0; i < value.items.size(); ++i) {
        if (i > 0) out += ", ";
        if (is_object) append_quoted(value.keys[i], out);
        if (is_object) out += ": ";
        append_value(value.items[i], as_python, out);
      }
      out += is_object ? '}' : ']';
    }
  }
}

std::optional<char32_t> four_digits(std::string_view text) {
  const std::string_view four = text.substr(0, 4);
  unsigned unit = 0;
  const auto [end, error] = std::from_chars(four.data(), four.data() + four.size(), unit, 16);
  if (four.size() < 4 || error != std::errc() || end != four.data() + 4) return std::nullopt;
  return unit;
}

}  // namespace

const JsonValue* JsonValue::find(std::string_view key) const {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return found == keys.end() ? nullptr : &items[static_cast<size_t>(found - keys.begin())];
}

void JsonValue::set(std::string_view key, JsonValue value) {
  const auto found = std::find(keys.begin(), keys.end(), key);
  if (found != keys.end()) {
    items[static_cast<size_t>(found - keys.begin())] = std::move(value);
    return;
  }
  keys.emplace_back(key);
  items.push_back(std::move(value));
}

const char* json_kind_name(JsonValue::Kind kind) {
  static const char* const kNames[] = {"null", "boolean", "number", "string", "array", "object"};
  return kNames[static_cast<size_t>(kind)];
}

Result<JsonValue> parse_json(std::string_view text, const JsonRules& rules) {
  return Parser(text, rules).document();
}

JsonEscape json_escape(std::string_view text) {
  if (text.empty()) return {0, 0, "want an escape"};
  if (const size_t i = kLetters.find(text[0]); i != std::string_view::npos) {
    return {static_cast<char32_t>(kMeanings[i]), 1, nullptr};
  }
  if (text[0] != 'u') return {0, 0, "an unknown escape"};
  const auto unit = four_digits(text.substr(1));
  if (!unit) return {0, 1, "want four hexadecimal digits"};
  if (*unit < 0xD800 || *unit > 0xDFFF) return {*unit, 5, nullptr};
  if (*unit < 0xDC00 && text.substr(5).starts_with("\\u")) {
    const auto low = four_digits(text.substr(7));
    if (low && *low >= 0xDC00 && *low <= 0xDFFF) {
      return {0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00), 11, nullptr};
    }
  }
  return {0, 5, "half of a surrogate pair"};
}

std::string to_python_json(const JsonValue& value) {
  std::string out;
  append_value(value, true, out);
  return out;
}

std::string write_json(const JsonValue& value) {
  std::string out;
  append_value(value, false, out);
  return out;
}

std::string json_quoted(std::string_view text) {
  std::string out;
  append_quoted(text, out);
  return out;
}

}  // namespace glimpse
