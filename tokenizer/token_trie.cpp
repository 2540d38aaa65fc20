#include "tokenizer/token_trie.h"

#include <algorithm>
#include <limits>

#include "engine/base/hash.h"

namespace glimpse {

TokenTrie::TokenTrie(const Tokenizer& tokenizer) : n_tokens_(tokenizer.size()) {
  std::vector<std::pair<std::string_view, TokenId>> texts;
  texts.reserve(static_cast<size_t>(n_tokens_));
  for (TokenId id = 0; id < n_tokens_; ++id) {
    begins_.push_back(block_.size());
    if (tokenizer.is_end_of_generation(id)) {
      ends_.push_back(id);
      continue;
    }
    const std::string_view bytes = tokenizer.token_bytes(id, false);
    // A longer one does not fit depth; nothing that an answer is made of is as long.
    if (bytes.empty() || bytes.size() > std::numeric_limits<uint16_t>::max()) continue;
    texts.emplace_back(bytes, id);
    block_ += bytes;
  }
  begins_.push_back(block_.size());
  Hash64 hash;
  hash.add(std::as_bytes(std::span(block_)));
  hash.add(std::as_bytes(std::span(begins_)));
  hash.add(std::as_bytes(std::span(ends_)));
  fingerprint_ = hash.value();
  std::sort(texts.begin(), texts.end());
  nodes_.reserve(block_.size() / 2);
  std::vector<uint32_t> path;  // nodes of the text before
  std::string_view before;
  const auto close = [&](size_t n_kept) {
    for (; path.size() > n_kept; path.pop_back()) nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  };
  for (const auto& [text, id] : texts) {
    const auto common =
        static_cast<size_t>(std::mismatch(text.begin(), text.end(), before.begin(), before.end()).first - text.begin());
    close(common);
    for (size_t i = common; i < text.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, -1, static_cast<uint16_t>(i), static_cast<uint8_t>(text[i]), false});
    }
    Node& last = nodes_[path.back()];
    if (last.token < 0) {
      last.token = id;
    } else {
      last.shared = true;
      twins_.emplace_back(last.token, id);
    }
    n_levels_ = std::max(n_levels_, text.size());
    before = text;
  }
  close(0);
  std::sort(twins_.begin(), twins_.end());
  nodes_.shrink_to_fit();
}

int64_t fewest_tokens(const Tokenizer& tokenizer, size_t n_bytes) {
  constexpr size_t kUsual = 64, kComposed = 4;  // bytes of a token; that become one when a text is composed
  return static_cast<int64_t>(n_bytes / (kComposed * std::max(kUsual, tokenizer.trie()->n_levels())));
}

}  // namespace glimpse
