// Chooses the next token from logits: penalties, bias, temperature, top-k, top-p, min-p, seeded draw.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

struct SamplerOptions {
  float temperature = 0.0f;        // below 1e-5: greedy (argmax; the lowest id wins a tie)
  int32_t top_k = 0;               // 0: off
  float top_p = 1.0f;              // 1: off
  float min_p = 0.0f;              // 0: off
  float repetition_penalty = 1.0f; // Hugging Face: a seen token's logit is divided by it if positive, else multiplied
  float presence_penalty = 0.0f;   // subtracted once from every seen token's logit
  float frequency_penalty = 0.0f;  // subtracted per occurrence
  int32_t penalty_last_n = -1;     // tokens looked back at; -1: all of prompt and answer, 0: none
  uint64_t seed = 0;
  std::vector<std::pair<TokenId, float>> logit_bias;  // added before anything else; -inf forbids
};

struct TokenLogprob {
  TokenId id = -1;
  float logprob = 0;               // natural log of the probability under the unmodified logits
};

struct SampledToken {
  TokenId id = -1;
  float logprob = 0;
  std::vector<TokenLogprob> top;   // n_top most likely, descending; empty when not asked for
};

/// State: the options, the random generator and the tokens seen. Order of steps as in transformers: bias, penalties,
/// temperature, top-k, top-p, min-p. Same seed, same logits: same tokens on every machine.
class Sampler {
 public:
  /// Errors: kInvalidArgument names the option and its legal range.
  static Result<Sampler> create(const SamplerOptions& options, int64_t vocab_size);
  /// Prompt tokens count for penalties.
  void accept_prompt(std::span<const TokenId> ids);
  /// logits: vocab_size floats, may be changed. Errors: kNumeric when none is finite.
  Result<SampledToken> sample(std::span<float> logits, int n_top_logprobs);
  /// Counts a token of the answer.
  void accept(TokenId id);

 private:
  Sampler() = default;
  SamplerOptions options_;
  int64_t vocab_size_ = 0;
  uint64_t random_state_[4] = {};
  std::vector<TokenId> history_;
  std::vector<std::pair<float, TokenId>> candidates_;  // scratch
};

}  // namespace glimpse
