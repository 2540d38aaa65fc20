// JSON (RFC 8259) as values, and back as Python writes it: tool definitions and calls in chat prompts.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

/// A JSON value. Objects keep the order of their keys; numbers keep their spelling.
struct JsonValue {
  enum class Kind { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  std::string text;                                        // kString: UTF-8; kNumber: as it was spelled
  std::vector<JsonValue> items;                            // kArray
  std::vector<std::pair<std::string, JsonValue>> members;  // kObject; of a key given twice the last value counts

  /// Of an object; nullptr when it has no such key, or is no object.
  const JsonValue* find(std::string_view key) const;
};

constexpr int kMostJsonDepth = 128;

/// The one value that `text` is, with white space around it. Errors: kInvalidArgument, with the byte and what was
/// expected there: not JSON, not UTF-8, half a surrogate pair, numbers that no double holds, deeper than
/// kMostJsonDepth.
Result<JsonValue> parse_json(std::string_view text);

/// As Python's json.dumps(value, ensure_ascii=False) has it, which is what chat templates' `tojson` gives in
/// transformers: ", " and ": " between, numbers as Python prints them.
std::string to_python_json(const JsonValue& value);
/// A string alone, with its quotes.
std::string json_quoted(std::string_view text);

}  // namespace glimpse
