#include "tools/eval/kl_statistics.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace glimpse::eval {
namespace {

constexpr double kPercents[] = {100, 99.9, 99, 95, 90, 75, 50, 25, 10, 5, 1, 0.1, 0};

// Mean of a value over all tokens; llama.cpp's standard error: sqrt(variance / (n - 1)), none for 10 values or fewer.
Estimate estimate(std::span<const TokenScore> scores, const std::function<double(const TokenScore&)>& value) {
  const auto n = static_cast<double>(scores.size());
  double sum = 0, sum2 = 0;
  for (const TokenScore& s : scores) {
    const double v = value(s);
    sum += v;
    sum2 += v * v;
  }
  const double mean = sum / n, variance = sum2 / n - mean * mean;
  return {mean, scores.size() > 10 && variance > 0 ? std::sqrt(variance / (n - 1)) : 0};
}

Estimate exponential(const Estimate& log_value) {
  const double value = std::exp(log_value.value);
  return {value, value * log_value.error};
}

std::vector<Percentile> percentiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  std::vector<Percentile> out;
  for (const double percent : kPercents) out.push_back({percent, percentile(values, percent / 100)});
  return out;
}

}  // namespace

double TokenScore::p_diff() const {
  return std::exp(-nll) - std::exp(-nll_base);
}

TokenScore score_token(std::span<const float> logits, const Softmax& softmax, int64_t token) {
  TokenScore score;
  score.nll = softmax.log_sum_exp - static_cast<double>(logits[static_cast<size_t>(token)]);
  return score;
}

TokenScore score_token(std::span<const float> logits, const Softmax& softmax, int64_t token,
                       std::span<const float> base, double floor) {
  TokenScore score = score_token(logits, softmax, token);
  score.nll_base = -static_cast<double>(base[static_cast<size_t>(token)]);
  size_t top = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    if (base[i] > base[top]) top = i;
    const auto log_p = static_cast<double>(base[i]);
    if (log_p <= floor) continue;
    score.kld +=
        static_cast<double>(std::exp(base[i])) * (log_p - (static_cast<double>(logits[i]) - softmax.log_sum_exp));
  }
  score.same_top = static_cast<int64_t>(top) == softmax.top;
  return score;
}

double percentile(std::span<const double> sorted, double fraction) {
  const double at = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = at - static_cast<double>(below);
  return (1 - part) * sorted[below] + part * sorted[above];
}

Statistics summarize(std::span<const TokenScore> scores) {
  Statistics s;
  s.count = static_cast<int64_t>(scores.size());
  if (scores.empty()) return s;
  const Estimate nll = estimate(scores, [](const TokenScore& t) { return t.nll; });
  const Estimate nll_base = estimate(scores, [](const TokenScore& t) { return t.nll_base; });
  s.perplexity = exponential(nll);
  s.base_perplexity = exponential(nll_base);
  s.log_ratio = estimate(scores, [](const TokenScore& t) { return t.nll - t.nll_base; });
  const double product = estimate(scores, [](const TokenScore& t) { return t.nll * t.nll_base; }).value;
  const double covariance = (product - nll.value * nll_base.value) / std::max(1.0, static_cast<double>(s.count - 1));
  if (nll.error > 0 && nll_base.error > 0) s.correlation = covariance / (nll.error * nll_base.error);
  s.kld = estimate(scores, [](const TokenScore& t) { return t.kld; });
  s.p_diff = estimate(scores, [](const TokenScore& t) { return t.p_diff(); });
  const Estimate mse = estimate(scores, [](const TokenScore& t) { return t.p_diff() * t.p_diff(); });
  s.rms_p_diff.value = std::sqrt(mse.value);
  if (mse.value > 0) s.rms_p_diff.error = 0.5 / s.rms_p_diff.value * mse.error;
  s.same_top = estimate(scores, [](const TokenScore& t) { return t.same_top ? 1.0 : 0.0; });
  std::vector<double> klds, diffs;
  for (const TokenScore& t : scores) {
    klds.push_back(t.kld);
    diffs.push_back(t.p_diff());
  }
  s.kld_percentiles = percentiles(std::move(klds));
  s.p_diff_percentiles = percentiles(std::move(diffs));
  return s;
}

}  // namespace glimpse::eval
