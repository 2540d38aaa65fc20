#include "tokenizer/token_table.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace glimpse {

TokenTable::TokenTable(size_t n_tokens, size_t n_bytes)
    : words_(std::bit_ceil(std::max<size_t>(2 * n_tokens, 16))), literals_(2 * kFewLiterals) {
  block_.reserve(n_bytes);
  ends_.reserve(n_tokens + 1);
  ends_.push_back(0);
}

TokenId TokenTable::append(std::string_view bytes, Space space) {
  const auto id = static_cast<TokenId>(size());
  block_.append(bytes);
  ends_.push_back(block_.size());
  if (space == Space::kNameless) return id;
  if (space == Space::kWord) {
    longest_word_ = std::max(longest_word_, bytes.size());
    insert(id, words_);
    return id;
  }
  // Special tokens are few in a sane file, so that table grows only when it must.
  if (2 * ++n_literals_ > literals_.size()) {
    std::vector<Slot> larger(2 * literals_.size());
    larger.swap(literals_);
    for (const Slot& slot : larger) {
      if (slot.id >= 0) insert(slot.id, literals_);
    }
  }
  insert(id, literals_);
  return id;
}

TokenId TokenTable::find(std::string_view bytes, const std::vector<Slot>& slots) const {
  const size_t hash = std::hash<std::string_view>{}(bytes);
  const size_t mask = slots.size() - 1;
  for (size_t i = hash & mask; slots[i].id >= 0; i = (i + 1) & mask) {
    if (slots[i].hash == static_cast<uint32_t>(hash >> 32) && this->bytes(slots[i].id) == bytes) return slots[i].id;
  }
  return -1;
}

void TokenTable::find_words(std::span<const std::string_view> texts, std::span<TokenId> ids) const {
  constexpr size_t kBatch = 64;
  const size_t mask = words_.size() - 1;
  size_t slots[kBatch];
  for (size_t first = 0; first < texts.size(); first += kBatch) {
    const auto batch = texts.subspan(first, std::min(kBatch, texts.size() - first));
    // A look-up reads a slot, what that says of the place, and the bytes there: each is asked for early.
    for (size_t i = 0; i < batch.size(); ++i) {
      slots[i] = std::hash<std::string_view>{}(batch[i]) & mask;
      __builtin_prefetch(&words_[slots[i]]);
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      const TokenId id = words_[slots[i]].id;
      if (id >= 0) __builtin_prefetch(&ends_[static_cast<size_t>(id)]);
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      const TokenId id = words_[slots[i]].id;
      if (id >= 0) __builtin_prefetch(block_.data() + ends_[static_cast<size_t>(id)]);
    }
    for (size_t i = 0; i < batch.size(); ++i) ids[first + i] = find(batch[i], words_);
  }
}

void TokenTable::insert(TokenId id, std::vector<Slot>& slots) {
  const std::string_view own = bytes(id);
  const size_t hash = std::hash<std::string_view>{}(own);
  const size_t mask = slots.size() - 1;
  size_t i = hash & mask;
  for (; slots[i].id >= 0; i = (i + 1) & mask) {
    if (slots[i].hash == static_cast<uint32_t>(hash >> 32) && bytes(slots[i].id) == own) return;
  }
  slots[i] = {static_cast<uint32_t>(hash >> 32), id};
}

}  // namespace glimpse
