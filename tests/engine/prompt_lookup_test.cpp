#include "engine/generate/prompt_lookup.h"

#include <gtest/gtest.h>

#include <numeric>

namespace glimpse::testing {
namespace {

using Ids = std::vector<TokenId>;

TEST(PromptLookup, GivesWhatFollowedTheLastTokensBefore) {
  EXPECT_EQ(look_up_continuation(Ids{1, 2, 3, 4, 5, 6, 9, 1, 2, 3}, 3), (Ids{4, 5, 6}));
  EXPECT_EQ(look_up_continuation(Ids{1, 2, 3, 4, 5, 6, 9, 1, 2, 3}, 1), (Ids{4}));
  EXPECT_EQ(look_up_continuation(Ids{7, 8, 5, 7, 8}, 2), (Ids{5, 7}));
}

TEST(PromptLookup, OneTokenIsNoMatch) {
  EXPECT_TRUE(look_up_continuation(Ids{1, 2, 3, 9, 3}, 4).empty());
  EXPECT_TRUE(look_up_continuation(Ids{5, 5}, 4).empty());
}

TEST(PromptLookup, NoMatchOrTooFewTokensGiveNothing) {
  for (size_t n = 0; n < 20; ++n) {
    Ids all_different(n);
    std::iota(all_different.begin(), all_different.end(), 0);
    EXPECT_TRUE(look_up_continuation(all_different, 4).empty()) << n;
  }
  EXPECT_TRUE(look_up_continuation(Ids{1, 2, 3, 1, 2}, 0).empty());
  EXPECT_TRUE(look_up_continuation(Ids{1, 2, 3, 1, 2}, -1).empty());
}

TEST(PromptLookup, TheLongestMatchCountsNotTheLatest) {
  // 1 2 3 stood once, and 2 3 alone later.
  EXPECT_EQ(look_up_continuation(Ids{1, 2, 3, 40, 9, 2, 3, 50, 1, 2, 3}, 1), (Ids{40}));
  // Four tokens match; that a fifth does elsewhere is not looked at.
  EXPECT_EQ(look_up_continuation(Ids{5, 1, 2, 3, 4, 40, 1, 2, 3, 4, 50, 5, 1, 2, 3, 4}, 1), (Ids{50}));
}

TEST(PromptLookup, OfEqualMatchesTheLatestCounts) {
  EXPECT_EQ(look_up_continuation(Ids{1, 2, 40, 1, 2, 50, 9, 1, 2}, 1), (Ids{50}));
}

TEST(PromptLookup, AMatchAtTheVeryBeginningIsFound) {
  EXPECT_EQ(look_up_continuation(Ids{1, 2, 3, 1, 2}, 1), (Ids{3}));
  EXPECT_EQ(look_up_continuation(Ids{1, 2, 3, 4, 5, 1, 2, 3, 4}, 1), (Ids{5}));
}

TEST(PromptLookup, WhatRepeatsGoesOnRepeating) {
  EXPECT_EQ(look_up_continuation(Ids{5, 5, 5}, 4), (Ids{5, 5, 5, 5}));
  EXPECT_EQ(look_up_continuation(Ids{9, 1, 2, 1, 2}, 5), (Ids{1, 2, 1, 2, 1}));
  EXPECT_EQ(look_up_continuation(Ids{1, 2, 3, 1, 2}, 7), (Ids{3, 1, 2, 3, 1, 2, 3}));
}

}  // namespace
}  // namespace glimpse::testing
