#include "engine/constrain/frontends.h"
#include "tokenizer/utf8.h"

namespace glimpse::constrain {

Result<Grammar> choice_grammar(std::span<const std::string> texts) {
  if (texts.empty()) return make_error(ErrorCode::kInvalidArgument, "the answer is to be one of no texts");
  GrammarBuilder builder;
  std::vector<GrammarBuilder::Expr> alternatives;
  size_t n = 0;
  for (const std::string& text : texts) {
    ++n;
    if (text.empty()) return make_error(ErrorCode::kInvalidArgument, "choice %d is empty", n);
    if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
      return make_error(ErrorCode::kInvalidArgument, "choice %d is not valid UTF-8 at byte %d", n, bad);
    }
    alternatives.push_back(builder.literal(text));
  }
  const GrammarBuilder::Rule root = builder.add_rule("the choice");
  builder.define(root, builder.choice(std::move(alternatives)));
  auto grammar = builder.build(root);
  if (!grammar.ok()) return with_context(std::move(grammar).error(), "the choice of texts");
  return grammar;
}

}  // namespace glimpse::constrain
