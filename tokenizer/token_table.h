// The bytes of all tokens, and the way back from bytes to ids.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace glimpse {

/// All tokens in one block of bytes. Two name spaces: words (tokens spelled in the byte alphabet, kept as the bytes
/// they stand for) and literals (special tokens, whose text is what it looks like). A nameless token has bytes but is
/// not found.
class TokenTable {
 public:
  enum class Space { kWord, kLiteral, kNameless };

  /// n_bytes: an estimate for all tokens together.
  TokenTable(size_t n_tokens, size_t n_bytes);

  /// The next id gets these bytes. When the space has a token of the same bytes, lookups keep finding that one.
  /// At most n_tokens times.
  TokenId append(std::string_view bytes, Space space);

  int64_t size() const { return static_cast<int64_t>(ends_.size()) - 1; }
  /// Precondition: 0 <= id < size().
  std::string_view bytes(TokenId id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(block_).substr(ends_[i], ends_[i + 1] - ends_[i]);
  }
  /// The token that stands for these bytes, or -1.
  TokenId find_word(std::string_view bytes) const { return find(bytes, words_); }
  /// find_word() of each: of many at a time, so that the memory's latency is waited for once. ids: as many as texts.
  void find_words(std::span<const std::string_view> texts, std::span<TokenId> ids) const;
  TokenId find_literal(std::string_view text) const { return find(text, literals_); }
  /// Length of the longest word in bytes.
  size_t longest_word() const { return longest_word_; }

 private:
  struct Slot {
    uint32_t hash = 0;
    TokenId id = -1;
  };
  static constexpr size_t kFewLiterals = 64;

  TokenId find(std::string_view bytes, const std::vector<Slot>& slots) const;
  void insert(TokenId id, std::vector<Slot>& slots);

  std::string block_;
  std::vector<size_t> ends_;  // token i is block_[ends_[i], ends_[i + 1])
  std::vector<Slot> words_;   // open addressing, powers of two, at most half full
  std::vector<Slot> literals_;
  size_t n_literals_ = 0;
  size_t longest_word_ = 0;
};

}  // namespace glimpse
