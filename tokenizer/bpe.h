// Byte-pair merging on token ids.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace glimpse {

/// What a pair of neighbours becomes. Lower rank goes first.
struct Merge {
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  uint32_t rank = kNone;
  TokenId result = -1;
};

/// Merges by pair of ids: an open-addressing hash table, at most half full.
class MergeTable {
 public:
  explicit MergeTable(size_t n_merges);
  /// Does nothing when the pair is there already (the first of equal merges wins). At most n_merges times.
  void insert(TokenId left, TokenId right, Merge merge);
  /// insert() of this pair comes soon.
  void prefetch(TokenId left, TokenId right) const { __builtin_prefetch(&slots_[home(key(left, right))], 1); }
  Merge find(TokenId left, TokenId right) const;

 private:
  struct Slot {
    uint64_t pair = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // no pair: ids are not negative

  static uint64_t key(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t home(uint64_t pair) const { return static_cast<size_t>((pair * 0x9E3779B97F4A7C15u) >> shift_); }

  std::vector<Slot> slots_;
  int shift_ = 0;
};

/// Merges pieces; owns the scratch memory that long pieces need (about 40 bytes per byte of the longest piece).
class BpeMerger {
 public:
  explicit BpeMerger(const MergeTable& merges) : merges_(merges) {}

  /// Applies the merge of lowest rank, leftmost first among equals, until none applies. symbols: one id per byte on
  /// entry; the merged ids on return. Time O(n log n), memory O(n).
  void merge(std::vector<TokenId>& symbols);

 private:
  struct Node {
    TokenId id;
    int32_t previous, next;  // -1: none
    Merge with_next;         // result -1 and rank kNone: none, or the node was merged away
  };

  void merge_short(std::vector<TokenId>& symbols);
  void merge_long(std::vector<TokenId>& symbols);
  void link(int32_t node);

  const MergeTable& merges_;
  std::vector<Merge> with_next_;
  std::vector<Node> nodes_;
  std::vector<uint64_t> heap_;  // rank << 32 | node; entries whose node has another rank by now are stale
};

}  // namespace glimpse
