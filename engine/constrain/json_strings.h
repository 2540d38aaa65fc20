// Strings of JSON answers: characters as JSON says them, formats, names of members.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/constrain/grammar.h"

namespace glimpse::constrain {

/// A character of a set inside a JSON string: as itself where JSON allows that, else by its short escape or \u00xx.
GrammarBuilder::Expr json_characters(GrammarBuilder& builder, const CodePointSet& set);
/// Any one character, also by an escape that is not needed (\/ apart): what a reader takes for one code point.
GrammarBuilder::Expr json_character(GrammarBuilder& builder);
/// The regular expression of what `format` asks for, or nullptr for one that is not supported.
const char* format_expression(std::string_view format);
/// Names of formats, for messages.
std::string known_formats();
/// A string in its quotes, without escapes, that is none of `names`.
GrammarBuilder::Expr other_name(GrammarBuilder& builder, const std::vector<std::string>& names);

}  // namespace glimpse::constrain
