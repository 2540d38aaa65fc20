// Drafts for speculation, without a second model: what followed the last tokens where they stood before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace glimpse {

/// The n tokens that followed an earlier occurrence of the last 2 to 4 of `tokens`: of the longest match, and of
/// several the latest. Where they run past the end they go on with themselves, so that what repeats goes on repeating.
/// Empty when there is no match. Source: A. Saxena, Prompt Lookup Decoding (2023). One scan of `tokens`.
std::vector<TokenId> look_up_continuation(std::span<const TokenId> tokens, int64_t n);

}  // namespace glimpse
