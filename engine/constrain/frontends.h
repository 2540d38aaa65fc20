// The notations that constraints are written in, each to a grammar.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/constrain/grammar.h"

namespace glimpse::constrain {

/// One of the texts. Errors: kInvalidArgument: none, an empty one, or one that is not UTF-8; kTooLarge.
Result<Grammar> choice_grammar(std::span<const std::string> texts);

/// A text that the expression matches as a whole. Errors: kInvalidArgument, kUnsupported (both name the character),
/// kTooLarge.
Result<Grammar> regex_grammar(std::string_view expression);

/// llama.cpp's GBNF, rule `root`; token names are looked up in the tokenizer. Errors: as regex_grammar(), with line and
/// column.
Result<Grammar> gbnf_grammar(std::string_view text, const Tokenizer& tokenizer);

/// JSON of a schema. Errors: as Constraint::compile_json_schema().
Result<Grammar> json_schema_grammar(std::string_view schema);
/// Any JSON object.
Result<Grammar> json_object_grammar();

}  // namespace glimpse::constrain
