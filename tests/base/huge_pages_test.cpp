#include "engine/base/huge_pages.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/base/aligned_buffer.h"

namespace glimpse {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;
constexpr int64_t kFast = HugePageTrials::kSlowNs - 1, kSlow = HugePageTrials::kSlowNs;

TEST(HugePages, AreTriedForEveryPieceWhileTheyAreFast) {
  HugePageTrials trials;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(trials.due(16 * kMb));
    EXPECT_TRUE(trials.took(kFast));
  }
}

TEST(HugePages, ASlowOneIsFollowedByMemoryWithoutThem) {
  HugePageTrials trials;
  ASSERT_TRUE(trials.due(16 * kMb));
  EXPECT_FALSE(trials.took(kSlow));
  for (uint64_t passed = 0; passed < HugePageTrials::kFirstPause; passed += 16 * kMb)
    EXPECT_FALSE(trials.due(16 * kMb));
  EXPECT_TRUE(trials.due(16 * kMb));
}

TEST(HugePages, PausesGrowWithSlowOnesInARowUpToALimit) {
  HugePageTrials trials;
  uint64_t pause = HugePageTrials::kFirstPause;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(trials.due(kHugePage));
    trials.took(kSlow);
    EXPECT_FALSE(trials.due(pause - 1)) << pause;
    EXPECT_FALSE(trials.due(kMb)) << pause;  // a piece may end behind the pause
    pause = std::min(2 * pause, HugePageTrials::kLongestPause);
  }
  EXPECT_EQ(pause, HugePageTrials::kLongestPause);
  ASSERT_TRUE(trials.due(kHugePage));
  trials.took(kFast);
  trials.took(kSlow);
  EXPECT_FALSE(trials.due(HugePageTrials::kFirstPause));
  EXPECT_TRUE(trials.due(kHugePage));
}

TEST(HugePages, MemoryIsZeroWhicheverPagesItGets) {
  for (const auto pages : {AlignedBuffer::Pages::kHuge, AlignedBuffer::Pages::kQuick}) {
    auto buffer = AlignedBuffer::allocate(37 * kMb + 5, "a test", pages);
    ASSERT_TRUE(buffer.ok());
    const std::byte* data = buffer->data();
    for (uint64_t at = 0; at < buffer->size(); at += 4096) ASSERT_EQ(data[at], std::byte{0}) << at;
    std::memset(buffer->data(), 1, buffer->size());
    buffer->join_pages();
    for (uint64_t at = 0; at < buffer->size(); at += 4096) ASSERT_EQ(data[at], std::byte{1}) << at;
  }
}

}  // namespace
}  // namespace glimpse
