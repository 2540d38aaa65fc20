#include "engine/generate/prompt_lookup.h"

#include <algorithm>

namespace glimpse {

std::vector<TokenId> look_up_continuation(std::span<const TokenId> tokens, int64_t n) {
  constexpr size_t kShortest = 2, kLongest = 4;  // tokens of a match: one alone says little of what follows
  const size_t size = tokens.size();
  size_t found = 0, found_length = kShortest - 1;  // the continuation begins at tokens[found]
  for (size_t end = size; end-- > kShortest && found_length < kLongest;) {
    const size_t most = std::min(end, kLongest);
    size_t length = 0;
    while (length < most && tokens[end - 1 - length] == tokens[size - 1 - length]) ++length;
    if (length <= found_length) continue;
    found = end;
    found_length = length;
  }
  std::vector<TokenId> drafts;
  if (found == 0) return drafts;
  for (size_t i = 0; i < static_cast<size_t>(std::max<int64_t>(n, 0)); ++i) {
    drafts.push_back(found + i < size ? tokens[found + i] : drafts[found + i - size]);
  }
  return drafts;
}

}  // namespace glimpse
