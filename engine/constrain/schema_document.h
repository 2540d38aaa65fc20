// A JSON schema as a document: its references, and several schemas that hold at once made one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "tokenizer/json.h"

namespace glimpse::constrain {

/// An error with the place in the schema, a JSON pointer ("#/properties/name"), before its message.
Error schema_error(const std::string& at, std::string_view what, ErrorCode code = ErrorCode::kInvalidArgument);
/// A pointer for messages and names: of a long one the beginning, and "...".
std::string shortened(std::string_view pointer);
/// The pointer to a member, shortened.
std::string pointer_to(const std::string& at, std::string_view key);
/// What is said about a schema and asks nothing of an answer: title, description, default, ... and what only holds
/// definitions.
bool is_annotation(std::string_view keyword);

class SchemaDocument {
 public:
  explicit SchemaDocument(JsonValue root) : root_(std::move(root)) {}
  const JsonValue& root() const { return root_; }

  /// What a $ref names: "#", "#/$defs/name" and every other pointer into the document. Errors: kInvalidArgument (there
  /// is nothing there), kUnsupported (another document, an anchor).
  Result<const JsonValue*> resolve(const std::string& reference, const std::string& at) const;

  /// Whether $ref or allOf stand in it beside other keywords, so that expand() is what it means.
  static bool is_combined(const JsonValue& schema);
  /// The same schema without $ref and allOf at its top. Errors: those of resolve() and both(); kInvalidArgument for one
  /// that refers to itself; kTooLarge.
  Result<JsonValue> expand(const JsonValue& schema, const std::string& at);
  /// What holds where both do; neither has $ref or allOf at its top. Errors: kUnsupported for keywords that cannot be
  /// put together (two patterns); kTooLarge.
  Result<JsonValue> both(const JsonValue& a, const JsonValue& b, const std::string& at);
  /// True only where no value can be of both: other types, other constants, a member that both ask for and that cannot
  /// be the same.
  bool are_disjoint(const JsonValue& a, const JsonValue& b, int depth = 0);
  /// Before a part of the schema is copied: all copies together are bounded. Errors: kTooLarge.
  Status charge(const JsonValue& copied, const std::string& at);

 private:
  Result<JsonValue> expand(const JsonValue& schema, const std::string& at, int depth);
  Status charge_pairs(size_t a, size_t b, const std::string& at);
  Result<bool> join_lists(JsonValue& to, const JsonValue& a, const JsonValue& b, const std::string& at);
  Status join_keyword(JsonValue& to, const std::string& key, const JsonValue& value, const std::string& at);
  bool have_disjoint_members(const JsonValue& a, const JsonValue& b, int depth);

  const JsonValue root_;
  int64_t n_copied_ = 0;  // values that were copied
};

/// Whether they are the same value: numbers by value, objects without their order.
bool same_json(const JsonValue& a, const JsonValue& b);
/// Kinds of values that a schema allows as far as type, const and enum say; a number that must be an integer counts as
/// a number.
std::vector<JsonValue::Kind> allowed_kinds(const JsonValue& schema);
/// A schema for what all of these allow.
JsonValue all_of(std::vector<JsonValue> schemas);

}  // namespace glimpse::constrain
