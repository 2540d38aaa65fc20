// Regular expressions, as people write them for programs: what Python, ECMAScript and PCRE agree on.
#pragma once

#include <functional>
#include <string_view>

#include "engine/constrain/grammar.h"

namespace glimpse::constrain {

struct RegexOptions {
  /// How a set of characters is said in the text; empty: as UTF-8.
  std::function<GrammarBuilder::Expr(const CodePointSet&)> characters;
  /// The expression may match anywhere in the text unless ^ and $ say otherwise, as `pattern` of JSON Schema.
  bool anywhere = false;
};

/// Alternatives, groups (also named and (?:)), * + ? {m} {m,} {m,n} (lazy ones too: the texts are the same), classes, .
/// (any but a line break), \d \w \s and their opposites (ECMAScript's: \d and \w are ASCII), escapes, and ^ $ \A \z at
/// the ends. Errors: kUnsupported for what is no regular language or not implemented (look-around, back references, \b,
/// flags, \p{..}); kInvalidArgument for what is malformed; both name the character, counted from 1.
Result<GrammarBuilder::Expr> parse_regex(std::string_view expression, GrammarBuilder& builder,
                                         const RegexOptions& options);

}  // namespace glimpse::constrain
