#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/tokenizer/fixtures.h"

namespace glimpse {
namespace {

// Pairs of `n_symbols` symbols, each made of known ones, so that merges build on each other. `shuffled`: a hostile
// order, in which a late merge can open up an early one.
struct RandomMerges {
  std::vector<std::pair<TokenId, TokenId>> pairs;  // pairs[i] makes symbol kLetters + i
  std::vector<uint32_t> ranks;
  static constexpr int kLetters = 3;

  RandomMerges(std::mt19937& random, int n, bool shuffled) {
    for (int i = 0; i < n; ++i) {
      const auto any = [&] { return static_cast<TokenId>(random() % static_cast<unsigned>(kLetters + i)); };
      pairs.emplace_back(any(), any());
      ranks.push_back(static_cast<uint32_t>(i));
    }
    if (shuffled) std::shuffle(ranks.begin(), ranks.end(), random);
  }
  MergeTable table() const {
    // In the order of rank, for the first of equal pairs must win.
    MergeTable merges(pairs.size());
    std::vector<size_t> order(pairs.size());
    for (size_t i = 0; i < order.size(); ++i) order[ranks[i]] = i;
    for (const size_t i : order) {
      merges.insert(pairs[i].first, pairs[i].second, {ranks[i], static_cast<TokenId>(kLetters + i)});
    }
    return merges;
  }
};

std::vector<TokenId> naive_merge(const MergeTable& merges, std::vector<TokenId> symbols) {
  for (;;) {
    size_t best = 0;
    Merge merge;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Merge m = merges.find(symbols[i], symbols[i + 1]);
      if (m.rank < merge.rank) {
        merge = m;
        best = i;
      }
    }
    if (merge.rank == Merge::kNone) return symbols;
    symbols[best] = merge.result;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(MergeTable, FindsWhatWasInsertedAndTheFirstOfEquals) {
  MergeTable merges(1000);
  for (TokenId i = 0; i < 1000; ++i) merges.insert(i, 7 * i, {static_cast<uint32_t>(i), i + 1});
  merges.insert(5, 35, {99999, 1});
  for (TokenId i = 0; i < 1000; ++i) {
    EXPECT_EQ(merges.find(i, 7 * i).rank, static_cast<uint32_t>(i));
    EXPECT_EQ(merges.find(i, 7 * i).result, i + 1);
    EXPECT_EQ(merges.find(i, 7 * i + 1).rank, Merge::kNone);
  }
}

TEST(MergeTable, WorksEmpty) {
  EXPECT_EQ(MergeTable(0).find(0, 0).rank, Merge::kNone);
}

TEST(Bpe, MergesLeftmostFirstAmongEquals) {
  MergeTable merges(1);
  merges.insert(0, 0, {0, 1});
  BpeMerger merger(merges);
  std::vector<TokenId> five(5, 0);
  merger.merge(five);
  EXPECT_EQ(five, (std::vector<TokenId>{1, 1, 0}));
  std::vector<TokenId> many(101, 0);
  merger.merge(many);
  EXPECT_EQ(many.size(), 51u);
  EXPECT_EQ(many.back(), 0);
}

TEST(Bpe, ShortAndLongPiecesMatchTheDefinition) {
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    const RandomMerges source(random, 1 + static_cast<int>(random() % 60), round % 2 == 1);
    const MergeTable merges = source.table();
    BpeMerger merger(merges);
    for (int i = 0; i < 6; ++i) {
      std::vector<TokenId> symbols(random() % (i < 3 ? 49 : 400));
      for (TokenId& s : symbols) s = static_cast<TokenId>(random() % RandomMerges::kLetters);
      const std::vector<TokenId> expected = naive_merge(merges, symbols);
      merger.merge(symbols);
      ASSERT_EQ(symbols, expected) << "round " << round;
    }
  }
}

TEST(Bpe, LeavesNothingAndOneSymbolAlone) {
  MergeTable merges(1);
  BpeMerger merger(merges);
  std::vector<TokenId> none, one{4};
  merger.merge(none);
  merger.merge(one);
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(one, std::vector<TokenId>{4});
}

}  // namespace
}  // namespace glimpse
