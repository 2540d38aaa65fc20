#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace glimpse {

MergeTable::MergeTable(size_t n_merges)
    : slots_(std::bit_ceil(std::max<size_t>(2 * n_merges, 16))), shift_(64 - std::countr_zero(slots_.size())) {}

void MergeTable::insert(TokenId left, TokenId right, Merge merge) {
  const uint64_t pair = key(left, right);
  size_t i = home(pair);
  while (slots_[i].pair != kEmpty) {
    if (slots_[i].pair == pair) return;
    i = (i + 1) & (slots_.size() - 1);
  }
  slots_[i] = {pair, merge};
}

Merge MergeTable::find(TokenId left, TokenId right) const {
  const uint64_t pair = key(left, right);
  for (size_t i = home(pair);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].pair == pair) return slots_[i].merge;
    if (slots_[i].pair == kEmpty) return {};
  }
}

void BpeMerger::merge(std::vector<TokenId>& symbols) {
  // Where the heap starts to win; most pieces are words of a few bytes.
  constexpr size_t kShort = 48;
  if (symbols.size() <= kShort) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
}

void BpeMerger::merge_short(std::vector<TokenId>& symbols) {
  if (symbols.size() < 2) return;
  with_next_.resize(symbols.size() - 1);
  for (size_t i = 0; i < with_next_.size(); ++i) with_next_[i] = merges_.find(symbols[i], symbols[i + 1]);
  while (!with_next_.empty()) {
    const auto best =
        std::min_element(with_next_.begin(), with_next_.end(), [](Merge a, Merge b) { return a.rank < b.rank; });
    if (best->rank == Merge::kNone) return;
    const auto i = static_cast<size_t>(best - with_next_.begin());
    symbols[i] = best->result;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
    with_next_.erase(best);
    if (i < with_next_.size()) with_next_[i] = merges_.find(symbols[i], symbols[i + 1]);
    if (i > 0) with_next_[i - 1] = merges_.find(symbols[i - 1], symbols[i]);
  }
}

/// Looks up what `node` and its successor become.
void BpeMerger::link(int32_t node) {
  Node& n = nodes_[static_cast<size_t>(node)];
  n.with_next = n.next < 0 ? Merge{} : merges_.find(n.id, nodes_[static_cast<size_t>(n.next)].id);
}

void BpeMerger::merge_long(std::vector<TokenId>& symbols) {
  const auto n = static_cast<int32_t>(symbols.size());
  const auto entry = [&](int32_t node) {
    return static_cast<uint64_t>(nodes_[static_cast<size_t>(node)].with_next.rank) << 32 | static_cast<uint32_t>(node);
  };
  nodes_.resize(symbols.size());
  heap_.clear();
  for (int32_t i = 0; i < n; ++i) {
    nodes_[static_cast<size_t>(i)] = {symbols[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1, {}};
  }
  for (int32_t i = 0; i < n; ++i) {
    link(i);
    if (nodes_[static_cast<size_t>(i)].with_next.rank != Merge::kNone) heap_.push_back(entry(i));
  }
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  const auto push = [&](int32_t node) {
    link(node);
    if (nodes_[static_cast<size_t>(node)].with_next.rank == Merge::kNone) return;
    heap_.push_back(entry(node));
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  };

  while (!heap_.empty()) {
    const uint64_t top = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    heap_.pop_back();
    const auto left = static_cast<int32_t>(top & 0xFFFFFFFFu);
    Node& l = nodes_[static_cast<size_t>(left)];
    if (l.with_next.rank != static_cast<uint32_t>(top >> 32)) continue;  // a neighbour has changed since
    Node& r = nodes_[static_cast<size_t>(l.next)];
    l.id = l.with_next.result;
    l.next = r.next;
    r.with_next = {};  // dead
    if (l.next >= 0) nodes_[static_cast<size_t>(l.next)].previous = left;
    push(left);
    if (l.previous >= 0) push(l.previous);
  }
  symbols.clear();
  for (int32_t i = 0; i >= 0; i = nodes_[static_cast<size_t>(i)].next) {
    symbols.push_back(nodes_[static_cast<size_t>(i)].id);
  }
}

}  // namespace glimpse
