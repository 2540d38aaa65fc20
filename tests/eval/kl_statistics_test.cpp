// Perplexity and divergence from given logits.
#include "tools/eval/kl_statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace glimpse::eval {
namespace {

constexpr double kNoFloor = -std::numeric_limits<double>::infinity();

// Logits of given probabilities, shifted: a softmax does not see the shift.
std::vector<float> logits_of(const std::vector<double>& p, double shift) {
  std::vector<float> logits;
  for (const double v : p) logits.push_back(static_cast<float>(std::log(v) + shift));
  return logits;
}

TEST(KlStatistics, DivergenceIsThatOfTheDefinition) {
  const std::vector<double> p = {0.7, 0.2, 0.1}, q = {0.5, 0.1, 0.4};
  double want = 0;
  for (size_t i = 0; i < 3; ++i) want += p[i] * std::log(p[i] / q[i]);
  const std::vector<float> logits = logits_of(q, 3), base = logits_of(p, 0);
  const TokenScore s = score_token(logits, measure_softmax(logits), 2, base, kNoFloor);
  EXPECT_NEAR(s.kld, want, 1e-6);
  EXPECT_NEAR(s.nll, -std::log(0.4), 1e-6);
  EXPECT_NEAR(s.nll_base, -std::log(0.1), 1e-6);
  EXPECT_NEAR(s.p_diff(), 0.3, 1e-6);
  EXPECT_TRUE(s.same_top);
  // What lies at or below the floor is left out.
  const TokenScore cut = score_token(logits, measure_softmax(logits), 2, base, std::log(0.15));
  EXPECT_NEAR(cut.kld, want - 0.1 * std::log(0.1 / 0.4), 1e-6);
}

TEST(KlStatistics, AnotherFavouriteIsSeen) {
  const std::vector<float> logits = {1, 2}, base = logits_of({0.9, 0.1}, 0);
  EXPECT_FALSE(score_token(logits, measure_softmax(logits), 0, base, kNoFloor).same_top);
}

TEST(KlStatistics, PerplexityIsTheExponentialOfTheMean) {
  std::vector<TokenScore> scores(20);
  double sum = 0, sum2 = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    scores[i].nll = 0.1 * static_cast<double>(i);
    sum += scores[i].nll;
    sum2 += scores[i].nll * scores[i].nll;
  }
  const Statistics s = summarize(scores);
  EXPECT_EQ(s.count, 20);
  EXPECT_NEAR(s.perplexity.value, std::exp(sum / 20), 1e-12);
  const double error = std::sqrt((sum2 / 20 - sum / 20 * sum / 20) / 19);
  EXPECT_NEAR(s.perplexity.error, std::exp(sum / 20) * error, 1e-12);
}

TEST(KlStatistics, FewTokensHaveNoError) {
  std::vector<TokenScore> scores(10);
  for (size_t i = 0; i < scores.size(); ++i) scores[i].nll = static_cast<double>(i);
  EXPECT_EQ(summarize(scores).perplexity.error, 0);
  EXPECT_EQ(summarize({}).count, 0);
}

TEST(KlStatistics, CorrelationOfProportionalValuesIsOne) {
  std::vector<TokenScore> scores(30);
  for (size_t i = 0; i < scores.size(); ++i) {
    scores[i].nll_base = std::sin(static_cast<double>(i)) + 2;
    scores[i].nll = 2 * scores[i].nll_base;
  }
  EXPECT_NEAR(summarize(scores).correlation, 1, 1e-9);
}

TEST(KlStatistics, PercentilesAreLinearBetweenNeighbours) {
  const std::vector<double> values = {1, 2, 4, 8, 16};
  EXPECT_EQ(percentile(values, 0), 1);
  EXPECT_EQ(percentile(values, 0.5), 4);
  EXPECT_EQ(percentile(values, 0.875), 12);
  EXPECT_EQ(percentile(values, 1), 16);
  std::vector<TokenScore> scores(5);
  for (size_t i = 0; i < 5; ++i) scores[i].kld = values[4 - i];  // any order
  const Statistics s = summarize(scores);
  EXPECT_EQ(s.kld_percentiles.front().percent, 100);
  EXPECT_EQ(s.kld_percentiles.front().value, 16);
  EXPECT_EQ(s.kld_percentiles.back().value, 1);
}

}  // namespace
}  // namespace glimpse::eval
