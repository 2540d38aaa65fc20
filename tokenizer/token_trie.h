// The texts of a vocabulary's tokens as a tree of bytes: what a constraint is walked along.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace glimpse {

/// Tokens that are text (token_bytes() without render_special is not empty and they end no answer). Immutable.
class TokenTrie {
 public:
  /// In preorder, children by rising byte; the root, which has no byte, is not among them.
  struct Node {
    uint32_t end = 0;    // index behind the last node below this one
    TokenId token = -1;  // that ends here, or -1; of several with the same bytes the first
    uint16_t depth = 0;  // bytes before this one; the first byte of a token has 0
    uint8_t byte = 0;
    bool shared = false;  // other tokens have the same bytes: twins()
  };

  explicit TokenTrie(const Tokenizer& tokenizer);

  std::span<const Node> nodes() const { return nodes_; }
  /// Of a token that is text; empty for others. Precondition: 0 <= id < n_tokens().
  std::string_view bytes(TokenId id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(block_).substr(begins_[i], begins_[i + 1] - begins_[i]);
  }
  /// (token, another with the same bytes), sorted.
  std::span<const std::pair<TokenId, TokenId>> twins() const { return twins_; }
  /// One more than the largest depth: the bytes of the longest token.
  size_t n_levels() const { return n_levels_; }
  /// Ids are below it.
  int64_t n_tokens() const { return n_tokens_; }
  /// Ids that end an answer, rising.
  std::span<const TokenId> ends() const { return ends_; }
  /// Equal for vocabularies whose tokens have the same texts and ends.
  uint64_t fingerprint() const { return fingerprint_; }

 private:
  std::vector<Node> nodes_;
  std::string block_;  // the texts, one behind the other
  std::vector<size_t> begins_;
  std::vector<std::pair<TokenId, TokenId>> twins_;
  std::vector<TokenId> ends_;
  size_t n_levels_ = 0;
  int64_t n_tokens_ = 0;
  uint64_t fingerprint_ = 0;
};

/// At least so many tokens has a text of n_bytes, be it composed (NFC) first or not. Taking a text apart costs many
/// times its bytes: what cannot fit is refused before.
int64_t fewest_tokens(const Tokenizer& tokenizer, size_t n_bytes);

}  // namespace glimpse
