#include "tokenizer/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <unordered_map>

#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

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
  return static_cast<int64_t>(point) - static_cast<int64_t>(first) > -power;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<JsonValue> document() {
    GLIMPSE_ASSIGN(JsonValue value, any(0));
    skip_blanks();
    if (at_ < text_.size()) return fail("the end");
    return value;
  }

 private:
  Error fail(const char* expected) const {
    if (at_ >= text_.size()) return make_error(ErrorCode::kInvalidArgument, "JSON ends where %s is expected", expected);
    return make_error(ErrorCode::kInvalidArgument, "JSON at byte %d: expected %s", at_, expected);
  }

  void skip_blanks() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Result<JsonValue> any(int depth) {
    skip_blanks();
    if (depth > kMostJsonDepth) {
      return make_error(ErrorCode::kInvalidArgument, "JSON at byte %d: nested more than %d deep", at_, kMostJsonDepth);
    }
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    JsonValue value;
    if (c == '{') return object(depth);
    if (c == '[') return array(depth);
    if (c == '"') {
      value.kind = JsonValue::Kind::kString;
      GLIMPSE_ASSIGN(value.text, string());
      return value;
    }
    if (c == '-' || is_digit(c)) return number();
    using Kind = JsonValue::Kind;
    for (const auto& [word, kind] : {std::pair{"null", Kind::kNull}, {"true", Kind::kTrue}, {"false", Kind::kFalse}}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += std::string_view(word).size();
      value.kind = kind;
      return value;
    }
    return fail("a value");
  }

  Result<JsonValue> array(int depth) {
    JsonValue value;
    value.kind = JsonValue::Kind::kArray;
    ++at_;
    skip_blanks();
    if (take(']')) return value;
    do {
      GLIMPSE_ASSIGN(JsonValue item, any(depth + 1));
      value.items.push_back(std::move(item));
      skip_blanks();
    } while (take(','));
    if (!take(']')) return fail("',' or ']'");
    return value;
  }

  Result<JsonValue> object(int depth) {
    JsonValue value;
    value.kind = JsonValue::Kind::kObject;
    ++at_;
    skip_blanks();
    if (take('}')) return value;
    std::unordered_map<std::string, size_t> seen;
    do {
      skip_blanks();
      if (at_ >= text_.size() || text_[at_] != '"') return fail("a key in quotes");
      GLIMPSE_ASSIGN(std::string key, string());
      skip_blanks();
      if (!take(':')) return fail("':'");
      GLIMPSE_ASSIGN(JsonValue member, any(depth + 1));
      const auto [place, is_new] = seen.try_emplace(key, value.members.size());
      if (is_new) {
        value.members.emplace_back(std::move(key), std::move(member));
      } else {
        value.members[place->second].second = std::move(member);
      }
      skip_blanks();
    } while (take(','));
    if (!take('}')) return fail("',' or '}'");
    return value;
  }

  Result<JsonValue> number() {
    JsonValue value;
    value.kind = JsonValue::Kind::kNumber;
    const size_t begin = at_;
    take('-');
    if (!take('0') && !digits()) return fail("a digit");
    if (take('.') && !digits()) return fail("a digit");
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      ++at_;
      if (!take('+')) take('-');
      if (!digits()) return fail("a digit");
    }
    value.text = text_.substr(begin, at_ - begin);
    if (value.text.size() > kMostDigits || exceeds_double(value.text)) {
      return make_error(ErrorCode::kInvalidArgument, "JSON at byte %d: a number that is too large", begin);
    }
    return value;
  }

  bool digits() {
    const size_t begin = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return at_ > begin;
  }

  Result<std::string> string() {
    std::string out;
    ++at_;
    while (at_ < text_.size()) {
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        ++at_;
        return out;
      }
      if (c < 0x20) return fail("no control character in a string");
      if (c == '\\') {
        GLIMPSE_TRY(escape(out));
        continue;
      }
      const Utf8Step step = utf8_step(text_.substr(at_));
      if (step.kind != Utf8Step::Kind::kValid) return fail("UTF-8");
      out.append(text_.substr(at_, step.n_bytes));
      at_ += step.n_bytes;
    }
    return fail("'\"'");
  }

  Status escape(std::string& out) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
    ++at_;
    if (at_ >= text_.size()) return fail("an escape");
    if (const size_t i = kNames.find(text_[at_]); i != std::string_view::npos) {
      ++at_;
      out += kMeant[i];
      return {};
    }
    if (!take('u')) return fail("an escape");
    GLIMPSE_ASSIGN(uint32_t unit, hex4());
    if (unit >= 0xD800 && unit < 0xDC00 && text_.substr(at_).starts_with("\\u")) {
      at_ += 2;
      GLIMPSE_ASSIGN(const uint32_t low, hex4());
      if (low < 0xDC00 || low > 0xDFFF) return fail("the second half of a surrogate pair");
      unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    if (unit >= 0xD800 && unit <= 0xDFFF) return fail("both halves of a surrogate pair");
    append_utf8(unit, out);
    return {};
  }

  Result<uint32_t> hex4() {
    uint32_t unit = 0;
    const std::string_view four = text_.substr(at_, 4);
    const auto [end, error] = std::from_chars(four.data(), four.data() + four.size(), unit, 16);
    if (four.size() < 4 || error != std::errc() || end != four.data() + 4) return fail("four hexadecimal digits");
    at_ += 4;
    return unit;
  }

  const std::string_view text_;
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
  constexpr std::string_view kNames = "\"\\bfnrt", kMeant = "\"\\\b\f\n\r\t";
  out += '"';
  for (const char c : text) {
    if (const size_t i = kMeant.find(c); i != std::string_view::npos) {
      out += '\\';
      out += kNames[i];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += format("\\u%04x", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_value(const JsonValue& value, std::string& out) {
  const char* separator = "";
  switch (value.kind) {
    case JsonValue::Kind::kNull:
      out += "null";
      break;
    case JsonValue::Kind::kFalse:
      out += "false";
      break;
    case JsonValue::Kind::kTrue:
      out += "true";
      break;
    case JsonValue::Kind::kNumber:
      out += python_number(value.text);
      break;
    case JsonValue::Kind::kString:
      append_quoted(value.text, out);
      break;
    case JsonValue::Kind::kArray:
      out += '[';
      for (const JsonValue& item : value.items) {
        out += std::exchange(separator, ", ");
        append_value(item, out);
      }
      out += ']';
      break;
    case JsonValue::Kind::kObject:
      out += '{';
      for (const auto& [key, member] : value.members) {
        out += std::exchange(separator, ", ");
        append_quoted(key, out);
        out += ": ";
        append_value(member, out);
      }
      out += '}';
      break;
  }
}

}  // namespace

const JsonValue* JsonValue::find(std::string_view key) const {
  for (const auto& [name, value] : members) {
    if (name == key) return &value;
  }
  return nullptr;
}

Result<JsonValue> parse_json(std::string_view text) {
  return Parser(text).document();
}

std::string to_python_json(const JsonValue& value) {
  std::string out;
  append_value(value, out);
  return out;
}

std::string json_quoted(std::string_view text) {
  std::string out;
  append_quoted(text, out);
  return out;
}

}  // namespace glimpse
