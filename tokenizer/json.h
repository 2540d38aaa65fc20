// JSON (RFC 8259) as values, and back: tool definitions and calls in chat prompts, schemas of answers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

/// A JSON value. Objects keep the order of their keys; numbers keep their spelling.
struct JsonValue {
  enum class Kind { kNull, kBoolean, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  bool boolean = false;
  std::string text;               // a string's value in UTF-8, a number as it was spelled
  std::vector<JsonValue> items;   // of an array, or an object's values
  std::vector<std::string> keys;  // of an object, one per item

  bool is(Kind k) const { return kind == k; }
  /// The member of that name; nullptr when there is none, or it is no object. The pointer is good as long as the value
  /// is not changed.
  const JsonValue* find(std::string_view key) const;
  /// An object's member, in its place or at the end.
  void set(std::string_view key, JsonValue value);

  static JsonValue make_string(std::string value) { return {Kind::kString, false, std::move(value), {}, {}}; }
  static JsonValue make_boolean(bool value) { return {Kind::kBoolean, value, {}, {}, {}}; }
};

/// "null", "boolean", "number", "string", "array", "object".
const char* json_kind_name(JsonValue::Kind kind);

constexpr int kMostJsonDepth = 128;

/// What a reader takes beside RFC 8259: by default what is read for Python's json.dumps().
struct JsonRules {
  bool repeated_keys = true;  // of a key given twice the last value counts, in the place of the first
  bool any_number = false;    // also those that no double holds, or of more than 400 digits
};
/// The one value that `text` is, with white space around it. Errors, with line and column in characters:
/// kInvalidArgument: not JSON, not UTF-8, half a surrogate pair, what the rules exclude; kTooLarge: deeper than
/// kMostJsonDepth.
Result<JsonValue> parse_json(std::string_view text, const JsonRules& rules = {});

/// What stands for a character behind a backslash.
struct JsonEscape {
  char32_t code_point = 0;
  size_t n_bytes = 0;           // behind the backslash; of a faulty one, those that can stand for nothing else
  const char* fault = nullptr;  // why it is none
};
JsonEscape json_escape(std::string_view behind_backslash);

/// As Python's json.dumps(value, ensure_ascii=False) has it, which is what chat templates' `tojson` gives in
/// transformers: ", " and ": " between, no line break, numbers as Python prints them. Of what parse_json() read with
/// the default rules.
std::string to_python_json(const JsonValue& value);
/// The same with numbers as they were spelled.
std::string write_json(const JsonValue& value);
/// A string alone, with its quotes.
std::string json_quoted(std::string_view text);

}  // namespace glimpse
