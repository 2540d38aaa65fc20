// Chooses the next token from logits: penalties, bias, temperature, top-k, top-p, min-p, seeded draw.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "engine/constrain/constraint.h"
#include "engine/generate/random.h"
#include "engine/runtime/ops.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

struct SamplerOptions {
  float temperature = 0.0f;         // at least 0; below 1e-5: greedy (argmax; the lowest id wins a tie)
  int32_t top_k = 0;                // 0: off; 1: greedy; of equal logits the lowest ids are kept
  float top_p = 1.0f;               // [0, 1]; 1: off; the smallest set of tokens whose probabilities reach it
  float min_p = 0.0f;               // [0, 1]; 0: off; relative to the most likely token
  float repetition_penalty = 1.0f;  // Hugging Face: a seen token's logit is divided by it if positive, else multiplied
  float presence_penalty = 0.0f;    // subtracted once from every seen token's logit
  float frequency_penalty = 0.0f;   // subtracted per occurrence
  int32_t penalty_last_n = -1;      // tokens looked back at; -1: all of prompt and answer, 0: none
  uint64_t seed = 0;
  std::vector<std::pair<TokenId, float>> logit_bias = {};  // added before anything else; -inf forbids
};

/// What Sampler::create() checks of the options themselves. Errors: kInvalidArgument names the option, its legal range
/// and what was given.
Status check_sampler_options(const SamplerOptions& options, int64_t vocab_size);

struct TokenLogprob {
  TokenId id = -1;
  float logprob = 0;  // natural log of the probability under the unmodified logits
};

struct SampledToken {
  TokenId id = -1;
  float logprob = 0;              // computed only when n_top_logprobs > 0, for it costs a pass over the vocabulary
  std::vector<TokenLogprob> top;  // n_top most likely, descending; empty when not asked for
};

/// State: the options, the random generator and the tokens seen. Order of steps as in transformers: bias, penalties
/// (repetition, then presence and frequency), temperature, top-k, top-p, min-p. Same seed, same logits: same tokens on
/// every machine: probabilities are doubles, computed by an exponential of our own in a fixed order.
/// Under a constraint the tokens that it does not allow have a logit of -inf after the penalties, before all that
/// follows: one random number is drawn per token, as without. The greedy choice is tried before any mask is made: where
/// it is allowed it is the greedy choice of those allowed. A draw is not, for top-k, top-p and min-p keep other tokens
/// of those allowed than of all.
class Sampler {
 public:
  /// Of no vocabulary, until follow().
  Sampler() = default;
  /// Errors: kInvalidArgument names the option and its legal range.
  static Result<Sampler> create(const SamplerOptions& options, int64_t vocab_size);
  /// Prompt tokens count for penalties.
  void accept_prompt(std::span<const TokenId> ids);
  /// logits: vocab_size floats; changed while it runs, on return as they were. An infinite logit wins (several share
  /// the probability), a negative infinite one is never chosen. Errors: kNumeric for a NaN (names the token) or when
  /// every logit is -inf; kInvalidArgument for another number of logits; those of the constraint. No number is drawn
  /// then, nor where memory runs out.
  Result<SampledToken> sample(std::span<float> logits, int n_top_logprobs, ConstraintState* constraint = nullptr);
  /// Counts a token of the answer. Where memory runs out nothing is counted.
  void accept(TokenId id);
  /// From now on it draws and counts as the other would. Without an allocation of size: scratch stays its own.
  void follow(const Sampler& other);
  /// The generator, to come back to when a token that was drawn could not be used.
  const Xoshiro256& random() const { return random_; }
  void set_random(const Xoshiro256& random) { random_ = random; }
  /// What a device needs to draw instead of sample(); nullopt where single tokens are biased or penalised. A device
  /// draws from the same distribution with the same random numbers, but walks through it in its own order: the same
  /// seed gives the same tokens there every time, though not those of sample() unless greedy.
  std::optional<DrawOptions> device_draw() const;
  /// The random numbers of the next n draws, in [0, 1]; they stay the next ones.
  std::vector<float> peek(size_t n) const;
  /// A draw was made elsewhere.
  void skip_draw();
  /// What the last sample() without log-probabilities drew from, in the order of its draw: by id, or by falling
  /// probability where top-k is on; and how probable each was, the likeliest being 1. One token when greedy.
  std::span<const TokenId> last_choices() const { return ids_; }
  std::span<const double> last_weights() const { return weights_; }

 private:
  using Candidate = std::pair<float, TokenId>;

  bool greedy() const;
  void modify(std::span<float> logits);
  Status shape_modified(std::span<float> logits, ConstraintState* constraint);
  Status shape_allowed(std::span<const float> logits, ConstraintState& constraint);
  void set_logit(std::span<float> logits, TokenId id, float value);
  Status check(std::span<const float> logits) const;
  Status shape(std::span<const float> logits);
  void select_top(std::span<const float> logits, size_t k);
  void weigh(std::span<const float> logits, float max, double temperature);
  void keep_first(double mass);
  void keep_top_p(std::span<const float> logits, float max);
  template <typename Keep>
  void keep_if(Keep keep);
  struct Normalizer;
  Normalizer normalizer(std::span<const float> logits);

  SamplerOptions options_;
  int64_t vocab_size_ = 0;
  bool penalizes_ = false;
  Xoshiro256 random_;
  std::vector<TokenId> window_;  // ring of the last penalty_last_n tokens
  size_t window_next_ = 0;
  std::unordered_map<TokenId, int32_t> counts_;     // occurrences inside the window
  std::vector<TokenId> ids_;                        // what is left to choose from
  std::vector<double> weights_;                     // one per id: probability relative to the likeliest
  std::vector<float> kept_logits_;                  // scratch: of the top k
  std::vector<float> allowed_logits_;               // scratch of shape_allowed()
  std::vector<Candidate> candidates_;               // scratch of select_top() and keep_top_p()
  std::vector<std::pair<TokenId, float>> changed_;  // logits before modify(), in the order of the changes
};

}  // namespace glimpse
