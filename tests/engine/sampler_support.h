// Samplers and distributions for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
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

inline std::vector<double> dense(Sampler& sampler, std::vector<float> logits) {
  std::vector<double> result(logits.size());
  const auto distribution = sampler.distribution(logits);
  EXPECT_TRUE(distribution.ok()) << distribution.error().message;
  if (distribution.ok()) {
    for (const auto& [id, p] : distribution.value()) result[static_cast<size_t>(id)] += p;
  }
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
