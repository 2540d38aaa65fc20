// Sampling on the device against the sampler of engine/generate.
#include <gtest/gtest.h>

#include <limits>

#include "engine/generate/sampler.h"
#include "kernels/cuda/epilogue.cuh"
#include "tests/cuda/cuda_support.h"
#include "tests/engine/sampler_support.h"

namespace glimpse::cuda {
namespace {

class DeviceSample : public ::testing::Test {
 protected:
  std::vector<int32_t> draw(const std::vector<float>& logits, int64_t rows, const DrawOptions& sampling,
                            const std::vector<float>& uniform) {
    const auto in = buffer(*ops_, logits);
    std::vector<int32_t> ids(static_cast<size_t>(rows), -2);
    EXPECT_OK(ops_->run([&] {
      ops_->sample(Mat::contiguous(in->data, rows, static_cast<int64_t>(logits.size()) / rows), sampling, uniform, ids);
    }));
    return ids;
  }
  std::unique_ptr<CudaOps> ops_ = host_ops({.order = host::Order::kRandom});
};

TEST_F(DeviceSample, GreedyTakesTheLowestOfTheGreatest) {
  Random random(1);
  for (const int64_t vocab : {1, 5, 1000, 5000}) {
    std::vector<float> logits = random.gaussian(3 * vocab);
    std::vector<int32_t> want;
    for (int64_t r = 0; r < 3; ++r) {
      const auto begin = logits.begin() + r * vocab;
      logits[static_cast<size_t>(r * vocab + random.below(static_cast<int>(vocab)))] = 9;
      logits[static_cast<size_t>(r * vocab + random.below(static_cast<int>(vocab)))] = 9;
      want.push_back(static_cast<int32_t>(std::max_element(begin, begin + vocab) - begin));
    }
    EXPECT_EQ(draw(logits, 3, {}, {0, 0, 0}), want);
    EXPECT_EQ(draw(logits, 3, {.temperature = 1, .top_k = 1}, {0.9f, 0.9f, 0.9f}), want);
  }
}

// What the product of the head leaves of a row orders logits as a comparison of floats does, zeros of both signs too.
TEST(Ranked, OrdersLogitsAndThenIds) {
  const float ascending[] = {-3e38f, -1, -1e-40f, 0, 1e-40f, 2, 3e38f};
  for (size_t i = 0; i + 1 < std::size(ascending); ++i) {
    EXPECT_LT(ranked(ascending[i], 7), ranked(ascending[i + 1], 9)) << ascending[i];
    EXPECT_LT(ranked(ascending[i], 9), ranked(ascending[i], 7)) << ascending[i];
    EXPECT_EQ(ranked_id(ranked(ascending[i], 7)), 7);
  }
  EXPECT_LT(ranked(0.0f, 9), ranked(-0.0f, 7));
  EXPECT_LT(ranked(-0.0f, 9), ranked(0.0f, 7));
  for (const float x : {INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_EQ(ranked_id(ranked(x, 7)), -1);
    EXPECT_LT(ranked(3e38f, 0), ranked(x, 7));
  }
  EXPECT_EQ(ranked_id(0), -1);
}

TEST_F(DeviceSample, RowsThatCannotBeDrawnFromGiveNoToken) {
  const float inf = INFINITY;
  EXPECT_EQ(draw({1, NAN, 2, -inf, -inf, -inf, 1, inf, 2}, 3, {}, {0, 0, 0}), (std::vector<int32_t>{-1, -1, 1}));
  EXPECT_EQ(draw({1, NAN, 2, -inf, -inf, -inf, 1, inf, 2}, 3, {.temperature = 1}, {0.5f, 0.5f, 0.5f}),
            (std::vector<int32_t>{-1, -1, 1}));
}

// The tokens that can be drawn, and how often, over a fine comb of random numbers.
TEST_F(DeviceSample, DistributionIsThatOfTheSampler) {
  Random random(2);
  constexpr int kVocab = 1500, kDraws = 1 << 10;
  const DrawOptions cases[] = {{.temperature = 1},
                               {.temperature = 0.5f, .top_k = 7},
                               {.temperature = 2, .top_p = 0.6f},
                               {.temperature = 0.7f, .top_k = 40, .top_p = 0.8f},
                               {.temperature = 1, .min_p = 0.2f},
                               {.temperature = 1.3f, .top_k = 100, .top_p = 0.9f, .min_p = 0.05f}};
  for (const DrawOptions& c : cases) {
    std::vector<float> logits = random.gaussian(kVocab, 2.0f);
    for (int i = 0; i < 40; ++i) logits[static_cast<size_t>(random.below(kVocab))] = 4.5f;  // ties at the border
    SamplerOptions options = {.temperature = c.temperature, .top_k = c.top_k, .top_p = c.top_p, .min_p = c.min_p};
    Sampler sampler = must(Sampler::create(options, kVocab));
    std::vector<double> want(kVocab, 0.0);
    for (const auto& [id, p] : testing::distribution(sampler, logits)) want[static_cast<size_t>(id)] = p;

    // Many rows of the same logits, one random number each.
    constexpr int kRows = 64;
    std::vector<float> many;
    for (int r = 0; r < kRows; ++r) many.insert(many.end(), logits.begin(), logits.end());
    std::vector<double> got(kVocab, 0.0);
    for (int first = 0; first < kDraws; first += kRows) {
      std::vector<float> uniform;
      for (int r = 0; r < kRows; ++r) uniform.push_back((static_cast<float>(first + r) + 0.5f) / kDraws);
      for (const int32_t id : draw(many, kRows, c, uniform)) {
        ASSERT_GE(id, 0);
        ASSERT_GT(want[static_cast<size_t>(id)], 0) << "token " << id << " was cut off";
        got[static_cast<size_t>(id)] += 1.0 / kDraws;
      }
    }
    // A comb of 1024 teeth hits an interval of the running sum to within one tooth at each end.
    for (size_t i = 0; i < kVocab; ++i) EXPECT_NEAR(got[i], want[i], 1.01 / kDraws) << "token " << i;
  }
}

// A long row is cut down to candidates first. What is below all of them changes nothing.
TEST_F(DeviceSample, CandidatesOfALongRowAreDrawnAsFromAShortOne) {
  Random random(3);
  constexpr int kShort = 1500, kLong = 6000, kBefore = 2000, kRows = 16;
  std::vector<float> logits = random.gaussian(kShort, 2.0f), padded(kLong, -30.0f), uniform;
  for (int i = 0; i < 40; ++i) logits[static_cast<size_t>(random.below(kShort))] = 4.5f;  // ties at the border
  std::copy(logits.begin(), logits.end(), padded.begin() + kBefore);
  std::vector<float> rows, long_rows;
  for (int r = 0; r < kRows; ++r) {
    rows.insert(rows.end(), logits.begin(), logits.end());
    long_rows.insert(long_rows.end(), padded.begin(), padded.end());
    uniform.push_back((static_cast<float>(r) + 0.5f) / kRows);
  }
  for (const DrawOptions& c :
       {DrawOptions{.temperature = 0.5f, .top_k = 7}, DrawOptions{.temperature = 0.7f, .top_k = 40, .top_p = 0.8f},
        DrawOptions{.temperature = 1.3f, .top_k = 1000, .top_p = 0.9f, .min_p = 0.05f}}) {
    std::vector<int32_t> want = draw(rows, kRows, c, uniform);
    for (int32_t& id : want) id += kBefore;
    EXPECT_EQ(draw(long_rows, kRows, c, uniform), want) << c.top_k;
  }
}

// More equal logits than there is room for candidates.
TEST_F(DeviceSample, ManyTiesOfALongRowKeepTheLowestIds) {
  const std::vector<float> logits(5000, 1.0f);
  for (const float u : {0.01f, 0.5f, 0.99f}) {
    EXPECT_EQ(draw(logits, 1, {.temperature = 1, .top_k = 10}, {u})[0], static_cast<int32_t>(u * 10)) << u;
  }
}

TEST_F(DeviceSample, TopKKeepsTheLowestIdsOfTies) {
  const std::vector<float> logits = {1, 3, 1, 1, 3, 1};
  std::vector<int> seen(6, 0);
  for (int i = 0; i < 50; ++i) {
    const float u = (static_cast<float>(i) + 0.5f) / 50;
    ++seen[static_cast<size_t>(draw(logits, 1, {.temperature = 1, .top_k = 4}, {u})[0])];
  }
  EXPECT_GT(seen[0], 0);
  EXPECT_GT(seen[2], 0);
  EXPECT_EQ(seen[3], 0);
  EXPECT_EQ(seen[5], 0);
}

}  // namespace
}  // namespace glimpse::cuda
