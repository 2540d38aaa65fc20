// Thinking of earlier answers, which the templates leave out once the user asks the next question.
#pragma once

#include <span>
#include <vector>

#include "engine/base/result.h"
#include "tokenizer/chat_style.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

/// A conversation's ids without it: the first n_kept as they were, then `tail`.
struct WithoutThinking {
  size_t n_kept = 0;
  std::vector<TokenId> tail;
};

/// ids: a conversation that ends with an answer. What stands in an answer up to </think> goes, an empty think block of
/// the generation prompt too; the rest is as tokenize_chat() has it in the messages before the last. Answers before the
/// last picture stay as they are: only rows of text can be computed again from ids.
Result<WithoutThinking> without_thinking(const Tokenizer& tokenizer, std::span<const TokenId> ids,
                                         const ChatStyle& style);

}  // namespace glimpse
