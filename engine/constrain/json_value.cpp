#include "engine/constrain/json_value.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "engine/constrain/decimal.h"
#include "tokenizer/utf8.h"

namespace glimpse::constrain {
namespace {

constexpr int kMaxNesting = 100;

using Kind = JsonValue::Kind;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<JsonValue> parse() {
    if (const size_t bad = find_invalid_utf8(text_); bad != std::string_view::npos) {
      pos_ = bad;
      return error("it is not valid UTF-8");
    }
    JsonValue value;
    skip();
    GLIMPSE_TRY(this->value(value, 0));
    skip();
    if (pos_ < text_.size()) return error("want the end, something follows");
    return value;
  }

 private:
  char peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }
  bool take(std::string_view what) {
    if (text_.substr(pos_, what.size()) != what) return false;
    pos_ += what.size();
    return true;
  }
  void skip() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++pos_;
  }
  Error error(std::string_view what, ErrorCode code = ErrorCode::kInvalidArgument) const {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < std::min(pos_, text_.size()); ++i) {
      if (text_[i] == '\n') {
        ++line;
        column = 1;
      } else if ((static_cast<unsigned char>(text_[i]) & 0xC0) != 0x80) {
        ++column;
      }
    }
    return make_error(code, "line %d, column %d: %s", line, column, pos_ < text_.size() ? what : "it ends too early");
  }

  Status value(JsonValue& to, int depth) {
    if (depth > kMaxNesting) return error(format("nested more than %d deep", kMaxNesting), ErrorCode::kTooLarge);
    const char c = peek();
    if (c == '{') return object(to, depth);
    if (c == '[') return array(to, depth);
    if (c == '"') {
      to.kind = Kind::kString;
      return string(to.text);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return number(to);
    to.kind = Kind::kBoolean;
    to.boolean = take("true");
    if (to.boolean || take("false")) return {};
    to.kind = Kind::kNull;
    if (take("null")) return {};
    return error("want a JSON value");
  }

  Status object(JsonValue& to, int depth) {
    to.kind = Kind::kObject;
    std::set<std::string, std::less<>> names;
    ++pos_;
    skip();
    if (take("}")) return {};
    while (true) {
      if (peek() != '"') return error("want the name of a member in quotes");
      const size_t begin = pos_;
      std::string name;
      GLIMPSE_TRY(string(name));
      if (!names.insert(name).second) {
        pos_ = begin;
        return error("a name that the object has already");
      }
      skip();
      if (!take(":")) return error("want ':'");
      skip();
      to.keys.push_back(std::move(name));
      to.items.emplace_back();
      GLIMPSE_TRY(value(to.items.back(), depth + 1));
      skip();
      if (take("}")) return {};
      if (!take(",")) return error("want ',' or '}'");
      skip();
    }
  }

  Status array(JsonValue& to, int depth) {
    to.kind = Kind::kArray;
    ++pos_;
    skip();
    if (take("]")) return {};
    while (true) {
      to.items.emplace_back();
      GLIMPSE_TRY(value(to.items.back(), depth + 1));
      skip();
      if (take("]")) return {};
      if (!take(",")) return error("want ',' or ']'");
      skip();
    }
  }

  Status number(JsonValue& to) {
    to.kind = Kind::kNumber;
    const size_t begin = pos_;
    const auto digits = [&] {
      const size_t first = pos_;
      while (peek() >= '0' && peek() <= '9') ++pos_;
      return pos_ > first;
    };
    take("-");
    if (!take("0") && !digits()) return error("want a digit");
    if (take(".") && !digits()) return error("want a digit behind the point");
    if (peek() == 'e' || peek() == 'E') {
      ++pos_;
      if (!take("+")) take("-");
      if (!digits()) return error("want a digit in the exponent");
    }
    to.text = text_.substr(begin, pos_ - begin);
    return {};
  }

  Result<char32_t> hexadecimal() {
    char32_t value = 0;
    for (int i = 0; i < 4; ++i, ++pos_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return error("want four hexadecimal digits");
      value = value * 16 + static_cast<char32_t>(digit);
    }
    return value;
  }

  Status escape(std::string& to) {
    static constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (const size_t i = kLetters.find(c); i != std::string_view::npos && pos_ < text_.size()) {
      ++pos_;
      to.push_back(kMeanings[i]);
      return {};
    }
    if (!take("u")) return error("an unknown escape");
    GLIMPSE_ASSIGN(char32_t code, hexadecimal());
    if (code >= 0xD800 && code <= 0xDBFF && take("\\u")) {
      GLIMPSE_ASSIGN(const char32_t low, hexadecimal());
      if (low < 0xDC00 || low > 0xDFFF) return error("half of a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code <= 0xDFFF) return error("half of a surrogate pair");
    append_utf8(code, to);
    return {};
  }

  Status string(std::string& to) {
    ++pos_;
    while (!take("\"")) {
      if (static_cast<unsigned char>(peek()) < 0x20) return error("want '\"': a string has no control characters");
      if (take("\\")) {
        GLIMPSE_TRY(escape(to));
      } else {
        to.push_back(text_[pos_++]);
      }
    }
    return {};
  }

  const std::string_view text_;
  size_t pos_ = 0;
};

void write(const JsonValue& value, std::string& to) {
  switch (value.kind) {
    case Kind::kNull:
      to += "null";
      break;
    case Kind::kBoolean:
      to += value.boolean ? "true" : "false";
      break;
    case Kind::kNumber:
      to += value.text;
      break;
    case Kind::kString:
      to += write_json_string(value.text);
      break;
    case Kind::kArray:
    case Kind::kObject: {
      const bool is_object = value.is(Kind::kObject);
      to += is_object ? '{' : '[';
      for (size_t i = 0; i < value.items.size(); ++i) {
        if (i > 0) to += ", ";
        if (is_object) {
          to += write_json_string(value.keys[i]);
          to += ": ";
        }
        write(value.items[i], to);
      }
      to += is_object ? '}' : ']';
    }
  }
}

}  // namespace

const JsonValue* JsonValue::find(std::string_view key) const {
  if (!is(Kind::kObject)) return nullptr;
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

Result<JsonValue> parse_json(std::string_view text) {
  return Parser(text).parse();
}

std::string write_json(const JsonValue& value) {
  std::string text;
  write(value, text);
  return text;
}

std::string write_json_string(std::string_view text) {
  static constexpr std::string_view kMeanings = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  std::string result = "\"";
  for (const char c : text) {
    if (const size_t i = kMeanings.find(c); i != std::string_view::npos) {
      result += '\\';
      result += kLetters[i];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      result += format("\\u%04x", static_cast<unsigned>(c));
    } else {
      result += c;
    }
  }
  return result + '"';
}

bool same_json(const JsonValue& a, const JsonValue& b) {
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  switch (a.kind) {
    case Kind::kNull:
      return true;
    case Kind::kBoolean:
      return a.boolean == b.boolean;
    case Kind::kNumber: {
      const auto x = Decimal::parse(a.text), y = Decimal::parse(b.text);
      return x && y ? *x == *y : a.text == b.text;
    }
    case Kind::kString:
      return a.text == b.text;
    case Kind::kArray:
      return std::equal(a.items.begin(), a.items.end(), b.items.begin(), same_json);
    case Kind::kObject: {
      const auto by_name = [](const JsonValue& object) {
        std::vector<size_t> order(object.keys.size());
        std::iota(order.begin(), order.end(), size_t{0});
        std::sort(order.begin(), order.end(), [&](size_t i, size_t k) { return object.keys[i] < object.keys[k]; });
        return order;
      };
      const std::vector<size_t> in_a = by_name(a), in_b = by_name(b);
      return std::equal(in_a.begin(), in_a.end(), in_b.begin(), [&](size_t i, size_t k) {
        return a.keys[i] == b.keys[k] && same_json(a.items[i], b.items[k]);
      });
    }
  }
  return false;
}

}  // namespace glimpse::constrain
