// Logits to log-probabilities, and llama.cpp's 16-bit code of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::eval {

/// What turns a row of logits into log-probabilities: log p[i] = logits[i] - log_sum_exp.
struct Softmax {
  double log_sum_exp = 0;
  float max = 0, min = 0;  // of the logits
  int64_t top = 0;         // the first index that holds the maximum
};
/// logits: finite, at least one.
Softmax measure_softmax(std::span<const float> logits);

/// One row of llama-perplexity's --kl-divergence-base file: float scale, float lowest, then n codes of 16 bits, padded
/// to an even number. log p[i] = lowest + scale * code[i]. The range ends 16 below the largest, so that codes are at
/// most 16 / 65535 apart; what lies lower is code 0. Source: llama.cpp tools/perplexity/perplexity.cpp (log_softmax).
constexpr double kCodedRange = 16.0;
constexpr int64_t coded_row_bytes(int64_t n_vocab) {
  return 2 * (2 * ((n_vocab + 1) / 2) + 4);
}
/// out: coded_row_bytes(logits.size()).
void encode_log_probs(std::span<const float> logits, const Softmax& softmax, std::span<std::byte> out);
/// Errors: kCorrupt: a scale or lowest value that is not finite, a negative scale, a probability above 1.
Status decode_log_probs(std::span<const std::byte> row, std::span<float> log_probs);

}  // namespace glimpse::eval
