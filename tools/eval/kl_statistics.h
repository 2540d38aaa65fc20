// Perplexity and Kullback-Leibler divergence over many predicted tokens: the figures of llama-perplexity.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tools/eval/log_probs.h"

namespace glimpse::eval {

/// One predicted token.
struct TokenScore {
  double nll = 0;       // -log q(token), the engine under test
  double nll_base = 0;  // -log p(token), the reference
  double kld = 0;       // sum over the vocabulary of p log(p / q)
  bool same_top = false;

  /// q(token) - p(token).
  double p_diff() const;
};

TokenScore score_token(std::span<const float> logits, const Softmax& softmax, int64_t token);
/// base: log p, (vocab). Entries at or below `floor` are left out: a coded base says nothing about them.
TokenScore score_token(std::span<const float> logits, const Softmax& softmax, int64_t token,
                       std::span<const float> base, double floor);

/// A mean and its standard error (0 below 11 values).
struct Estimate {
  double value = 0, error = 0;
};

struct Percentile {
  double percent = 0;  // 99.9
  double value = 0;
};

struct Statistics {
  int64_t count = 0;
  Estimate perplexity;  // exp of the mean nll
  // Against a reference:
  Estimate base_perplexity;
  Estimate log_ratio;      // mean nll - nll_base
  double correlation = 0;  // of nll and nll_base
  Estimate kld;
  std::vector<Percentile> kld_percentiles;  // 100 (the largest) down to 0
  Estimate p_diff;
  std::vector<Percentile> p_diff_percentiles;
  Estimate rms_p_diff;
  Estimate same_top;
};
Statistics summarize(std::span<const TokenScore> scores);

/// The value below which `fraction` of the values lie, linear between neighbours. sorted: ascending, at least one.
double percentile(std::span<const double> sorted, double fraction);

}  // namespace glimpse::eval
