// Log-probabilities and llama.cpp's 16-bit code of them.
#include "tools/eval/log_probs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace glimpse::eval {
namespace {

std::vector<float> random_logits(int64_t n, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(1.5f, spread);
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& v : logits) v = normal(random);
  return logits;
}

TEST(LogProbs, SoftmaxSumsToOne) {
  const std::vector<float> logits = random_logits(1000, 5, 1);
  const Softmax s = measure_softmax(logits);
  double sum = 0;
  for (const float v : logits) sum += std::exp(static_cast<double>(v) - s.log_sum_exp);
  EXPECT_NEAR(sum, 1, 1e-6);  // the sum is of float exponentials
  EXPECT_EQ(s.max, logits[static_cast<size_t>(s.top)]);
}

TEST(LogProbs, TopIsTheFirstOfEqualOnes) {
  EXPECT_EQ(measure_softmax(std::vector<float>{1, 3, 2, 3}).top, 1);
}

TEST(LogProbs, LargeLogitsDoNotOverflow) {
  const Softmax s = measure_softmax(std::vector<float>{3e4f, 3e4f, -3e4f});
  EXPECT_NEAR(s.log_sum_exp, 3e4 + std::log(2.0), 1e-3);
}

TEST(LogProbs, CodeKeepsValuesWithinHalfAStep) {
  for (const int64_t n : {1, 2, 7, 320, 1001}) {
    for (const float spread : {0.01f, 1.0f, 8.0f}) {
      const std::vector<float> logits = random_logits(n, spread, static_cast<uint32_t>(n));
      const Softmax s = measure_softmax(logits);
      std::vector<std::byte> row(static_cast<size_t>(coded_row_bytes(n)));
      encode_log_probs(logits, s, row);
      std::vector<float> decoded(logits.size());
      ASSERT_TRUE(decode_log_probs(row, decoded).ok());
      const double range = std::min<double>(kCodedRange, static_cast<double>(s.max) - static_cast<double>(s.min));
      // Half a step, and float rounding of values up to |log p|.
      const double bound = 0.5 * range / 65535 + 4e-7 * (range + std::fabs(s.log_sum_exp) + std::fabs(s.max) + 1);
      for (size_t i = 0; i < logits.size(); ++i) {
        const double want = std::max(static_cast<double>(logits[i]), static_cast<double>(s.max) - kCodedRange);
        EXPECT_NEAR(static_cast<double>(decoded[i]), want - s.log_sum_exp, bound) << n << " " << spread << " " << i;
      }
    }
  }
}

TEST(LogProbs, EqualLogitsHaveScaleZero) {
  const std::vector<float> logits(5, 2.5f);
  std::vector<std::byte> row(static_cast<size_t>(coded_row_bytes(5)));
  encode_log_probs(logits, measure_softmax(logits), row);
  std::vector<float> decoded(5);
  ASSERT_TRUE(decode_log_probs(row, decoded).ok());
  for (const float v : decoded) EXPECT_NEAR(v, -std::log(5.0f), 1e-6f);
}

TEST(LogProbs, ImpossibleRowsAreRefused) {
  const auto decode = [](float scale, float lowest, uint16_t code) {
    std::vector<std::byte> row(static_cast<size_t>(coded_row_bytes(2)));
    std::memcpy(row.data(), &scale, 4);
    std::memcpy(row.data() + 4, &lowest, 4);
    std::memcpy(row.data() + 8, &code, 2);
    std::vector<float> out(2);
    return decode_log_probs(row, out).ok();
  };
  EXPECT_TRUE(decode(1e-4f, -6.6f, 65535));
  EXPECT_FALSE(decode(1e-4f, -6.0f, 65535));  // a probability of e^0.55
  EXPECT_FALSE(decode(-1e-4f, -1.0f, 1));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    EXPECT_FALSE(decode(bad, -1.0f, 1));
    EXPECT_FALSE(decode(1e-4f, -bad, 1));
  }
}

}  // namespace
}  // namespace glimpse::eval
