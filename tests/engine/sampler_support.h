// Samplers and distributions for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "engine/generate/sampler.h"

namespace glimpse::testing {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

inline Sampler make(const SamplerOptions& options, size_t vocab) {
  auto sampler = Sampler::create(options, static_cast<int64_t>(vocab));
  EXPECT_TRUE(sampler.ok()) << sampler.error().message;
  return std::move(sampler).value();
}

struct TokenProbability {
  TokenId id = -1;
  double probability = 0;
};
/// What sample() draws from, in the order of its draw.
inline std::vector<TokenProbability> distribution(Sampler& sampler, std::span<float> logits,
                                                  ConstraintState* constraint = nullptr) {
  const Xoshiro256 random = sampler.random();
  const auto drawn = sampler.sample(logits, 0, constraint);
  EXPECT_TRUE(drawn.ok()) << drawn.error().message;
  std::vector<TokenProbability> result;
  if (!drawn.ok()) return result;
  sampler.set_random(random);
  const std::span<const double> weights = sampler.last_weights();
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] > 0.0) result.push_back({sampler.last_choices()[i], weights[i] / total});
  }
  return result;
}

inline std::vector<double> dense(Sampler& sampler, std::vector<float> logits) {
  std::vector<double> result(logits.size());
  for (const auto& [id, p] : distribution(sampler, logits)) result[static_cast<size_t>(id)] += p;
  return result;
}

inline TokenId draw(Sampler& sampler, std::vector<float> logits) {
  const auto token = sampler.sample(logits, 0);
  EXPECT_TRUE(token.ok()) << token.error().message;
  return token.ok() ? token.value().id : -1;
}

inline void expect_near(const std::vector<double>& got, const std::vector<double>& want, double bound) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], bound) << "token " << i;
}

inline std::vector<double> softmax(const std::vector<double>& x) {
  std::vector<double> p(x.size());
  const double max = *std::max_element(x.begin(), x.end());
  std::transform(x.begin(), x.end(), p.begin(), [max](double v) { return std::exp(v - max); });
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& v : p) v /= total;
  return p;
}

}  // namespace glimpse::testing
