// JSON as a schema needs it: members in their order, numbers as they were written, errors with their place.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::constrain {

struct JsonValue {
  enum class Kind { kNull, kBoolean, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  bool boolean = false;
  std::string text;               // a string's value, a number as written
  std::vector<JsonValue> items;   // of an array, or an object's values
  std::vector<std::string> keys;  // of an object, one per item

  bool is(Kind k) const { return kind == k; }
  /// The member of that name, or nullptr. The pointer is good as long as the value is not changed.
  const JsonValue* find(std::string_view key) const;
  /// An object's member, in its place or at the end.
  void set(std::string_view key, JsonValue value);

  static JsonValue make_string(std::string value) { return {Kind::kString, false, std::move(value), {}, {}}; }
  static JsonValue make_boolean(bool value) { return {Kind::kBoolean, value, {}, {}, {}}; }
};

const char* json_kind_name(JsonValue::Kind kind);

/// RFC 8259. Errors: kInvalidArgument with line and column: malformed text, invalid UTF-8, a name twice in an object, a
/// lone surrogate; kTooLarge: nested more than 100 deep.
Result<JsonValue> parse_json(std::string_view text);

/// As an answer has it: ", " and ": " between things, no line break, characters beyond ASCII as they are.
std::string write_json(const JsonValue& value);
/// A string with its quotes.
std::string write_json_string(std::string_view text);

/// Whether they are the same value: numbers by value, objects without their order.
bool same_json(const JsonValue& a, const JsonValue& b);

}  // namespace glimpse::constrain
