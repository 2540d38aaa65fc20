// Finds the tokens that are matched as literal text before anything else happens.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace glimpse {

/// A trie of special tokens. Overlaps go to the leftmost, then the longest, as in the tokenizers library.
class SpecialTokens {
 public:
  struct Match {
    size_t begin, end;
    TokenId id;
  };

  SpecialTokens();
  enum class Kind : uint8_t { kPlain, kMarkup, kControl };

  /// Precondition: text is not empty.
  void add(std::string_view text, TokenId id, Kind kind);
  /// The first match at or after `begin`; begin = end = text.size() and id = -1 when there is none. Those of kMarkup
  /// and kControl are only found when asked for.
  Match find(std::string_view text, size_t begin, bool with_markup, bool with_control) const;

 private:
  struct Node {
    int32_t first_child = -1, next_sibling = -1;
    TokenId id = -1;
    Kind kind = Kind::kPlain;
    char byte = 0;
  };
  int32_t child(int32_t node, char byte) const;

  std::vector<Node> nodes_;  // 0: the root
  std::array<bool, 256> may_start_{};
};

}  // namespace glimpse
