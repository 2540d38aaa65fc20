#include "engine/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace glimpse {
namespace {

constexpr float kGreedyTemperature = 1e-5f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kDeepest = 1e300;
constexpr float kLargest = std::numeric_limits<float>::max();

Error bad_option(const char* name, double value, const char* range) {
  return make_error(ErrorCode::kInvalidArgument, "%s is %g: it must be %s", name, value, range);
}

bool more_likely(const std::pair<float, TokenId>& a, const std::pair<float, TokenId>& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

/// How far a logit is below the largest, in units of the temperature. Infinite logits are all equal.
double depth_of(float logit, float max, double per_temperature) {
  if (max == kInfinity) return logit == kInfinity ? 0.0 : kDeepest;
  return (static_cast<double>(max) - static_cast<double>(logit)) * per_temperature;
}

}  // namespace

Status check_sampler_options(const SamplerOptions& options, int64_t vocab_size) {
  const auto fraction = [](float p) { return p >= 0.0f && p <= 1.0f; };  // false for NaN
  if (!(options.temperature >= 0.0f && options.temperature < kInfinity)) {
    return bad_option("temperature", options.temperature, "a finite number, at least 0 (0: greedy)");
  }
  if (options.top_k < 0) return bad_option("top_k", options.top_k, "at least 0 (0: off)");
  if (!fraction(options.top_p)) return bad_option("top_p", options.top_p, "in [0, 1] (1: off)");
  if (!fraction(options.min_p)) return bad_option("min_p", options.min_p, "in [0, 1] (0: off)");
  if (!(options.repetition_penalty > 0.0f && options.repetition_penalty < kInfinity)) {
    return bad_option("repetition_penalty", options.repetition_penalty, "a finite number above 0 (1: off)");
  }
  if (!std::isfinite(options.presence_penalty)) {
    return bad_option("presence_penalty", options.presence_penalty, "a finite number (0: off)");
  }
  if (!std::isfinite(options.frequency_penalty)) {
    return bad_option("frequency_penalty", options.frequency_penalty, "a finite number (0: off)");
  }
  if (options.penalty_last_n < -1) {
    return bad_option("penalty_last_n", options.penalty_last_n, "at least -1 (-1: all tokens, 0: none)");
  }
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < 0 || id >= vocab_size) {
      return make_error(ErrorCode::kInvalidArgument, "logit_bias names token %d: it must be in [0, %d)", id,
                        vocab_size);
    }
    if (std::isnan(bias) || bias == kInfinity) {
      return make_error(ErrorCode::kInvalidArgument,
                        "logit_bias of token %d is %g: it must be finite, or -inf to forbid", id,
                        static_cast<double>(bias));
    }
  }
  return {};
}

Result<Sampler> Sampler::create(const SamplerOptions& options, int64_t vocab_size) {
  if (vocab_size < 1 || vocab_size > std::numeric_limits<TokenId>::max()) {
    return make_error(ErrorCode::kInvalidArgument, "vocab_size is %d: it must be in [1, 2^31)", vocab_size);
  }
  GLIMPSE_TRY(check_sampler_options(options, vocab_size));
  Sampler sampler;
  sampler.options_ = options;
  sampler.vocab_size_ = vocab_size;
  sampler.random_ = Xoshiro256(options.seed);
  sampler.penalizes_ =
      options.penalty_last_n != 0 &&
      (options.repetition_penalty != 1.0f || options.presence_penalty != 0.0f || options.frequency_penalty != 0.0f);
  return sampler;
}

bool Sampler::greedy() const {
  return options_.temperature < kGreedyTemperature || options_.top_k == 1;
}

void Sampler::accept_prompt(std::span<const TokenId> ids) {
  for (const TokenId id : ids) accept(id);
}

void Sampler::accept(TokenId id) {
  if (!penalizes_ || id < 0 || id >= vocab_size_) return;
  const size_t limit = options_.penalty_last_n < 0 ? 0 : static_cast<size_t>(options_.penalty_last_n);
  if (window_.size() == window_.capacity() && window_.size() < limit) window_.reserve(2 * window_.size() + 16);
  ++counts_[id];
  if (limit == 0) return;
  if (window_.size() < limit) {
    window_.push_back(id);
    return;
  }
  const TokenId oldest = std::exchange(window_[window_next_], id);
  window_next_ = (window_next_ + 1) % limit;
  const auto found = counts_.find(oldest);
  if (--found->second == 0) counts_.erase(found);
}

void Sampler::follow(const Sampler& other) {
  options_ = other.options_;
  vocab_size_ = other.vocab_size_;
  penalizes_ = other.penalizes_;
  random_ = other.random_;
  window_ = other.window_;
  window_next_ = other.window_next_;
  counts_ = other.counts_;
}

std::optional<DrawOptions> Sampler::device_draw() const {
  if (penalizes_ || !options_.logit_bias.empty()) return std::nullopt;
  return DrawOptions{options_.temperature, options_.top_k, options_.top_p, options_.min_p};
}

std::vector<float> Sampler::peek(size_t n) const {
  std::vector<float> numbers(n);
  Xoshiro256 random = random_;
  if (!greedy())
    std::generate(numbers.begin(), numbers.end(), [&] { return static_cast<float>(random.next_double()); });
  return numbers;
}

void Sampler::skip_draw() {
  if (!greedy()) (void)random_.next();
}

void Sampler::set_logit(std::span<float> logits, TokenId id, float value) {
  float& logit = logits[static_cast<size_t>(id)];
  changed_.emplace_back(id, logit);
  logit = value;
}

// Bias, then repetition penalty, then presence and frequency penalty. Touches the biased and the seen tokens alone.
void Sampler::modify(std::span<float> logits) {
  changed_.clear();
  changed_.reserve(options_.logit_bias.size() + (penalizes_ ? counts_.size() : 0));
  for (const auto& [id, bias] : options_.logit_bias) {
    const float logit = logits[static_cast<size_t>(id)];
    set_logit(logits, id, bias == -kInfinity ? bias : logit + bias);  // inf - inf would be a NaN
  }
  if (!penalizes_) return;
  for (const auto& [id, count] : counts_) {
    float logit = logits[static_cast<size_t>(id)];
    logit = logit < 0.0f ? logit * options_.repetition_penalty : logit / options_.repetition_penalty;
    // Clamped: an infinite penalty on an infinite logit would be a NaN.
    const float penalty = options_.presence_penalty + options_.frequency_penalty * static_cast<float>(count);
    set_logit(logits, id, logit - std::clamp(penalty, -kLargest, kLargest));
  }
}

// shape() of the modified logits, which are then as they were, however it ends.
Status Sampler::shape_modified(std::span<float> logits, ConstraintState* constraint) {
  struct Restore {
    std::span<float> logits;
    const std::vector<std::pair<TokenId, float>>& changed;
    ~Restore() {
      for (size_t i = changed.size(); i-- > 0;) logits[static_cast<size_t>(changed[i].first)] = changed[i].second;
    }
  };
  modify(logits);
  const Restore restore{logits, changed_};
  return constraint == nullptr ? shape(logits) : shape_allowed(logits, *constraint);
}

// shape() of the tokens that may come next.
Status Sampler::shape_allowed(std::span<const float> logits, ConstraintState& constraint) {
  if (greedy()) {
    GLIMPSE_TRY(shape(logits));
    GLIMPSE_ASSIGN(const bool allowed, constraint.allows(ids_[0]));
    if (allowed) return {};
  }
  GLIMPSE_ASSIGN(const std::shared_ptr<const TokenMask> mask, constraint.mask());
  allowed_logits_.assign(logits.size(), -kInfinity);
  bool any = false;
  for (size_t word = 0; word < mask->words.size(); ++word) {
    for (uint64_t bits = mask->words[word]; bits != 0; bits &= bits - 1) {
      const size_t id = 64 * word + static_cast<size_t>(__builtin_ctzll(bits));
      if (id >= logits.size()) break;
      allowed_logits_[id] = logits[id];
      any |= logits[id] > -kInfinity;
    }
  }
  if (!any) return make_error(ErrorCode::kNumeric, "every token that the constraint allows has a logit of -inf");
  return shape(allowed_logits_);
}

Status Sampler::check(std::span<const float> logits) const {
  if (logits.size() != static_cast<size_t>(vocab_size_)) {
    return make_error(ErrorCode::kInvalidArgument, "%d logits for a vocabulary of %d", logits.size(), vocab_size_);
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) return make_error(ErrorCode::kNumeric, "the logit of token %d is NaN", i);
  }
  return {};
}

// Leaves the k likeliest tokens in candidates_, best first, -inf left out. Keeps at most 2k + 64 at a time and throws
// the worse half away when they are full, so most logits cost one comparison. Ids rise during the scan: a later logit
// that equals the worst one kept loses the tie.
void Sampler::select_top(std::span<const float> logits, size_t k) {
  k = std::min(k, logits.size());
  const size_t capacity = 2 * k + 64;
  const auto cut = [&] {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k - 1), candidates_.end(),
                     more_likely);
    candidates_.resize(k);
  };
  candidates_.clear();
  float threshold = -kInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > threshold)) continue;
    candidates_.emplace_back(logits[i], static_cast<TokenId>(i));
    if (candidates_.size() == capacity) {
      cut();
      threshold = candidates_[k - 1].first;
    }
  }
  if (candidates_.size() > k) cut();
  std::sort(candidates_.begin(), candidates_.end(), more_likely);
}

// weights_ of the logits given, in their order.
void Sampler::weigh(std::span<const float> logits, float max, double temperature) {
  weights_.resize(logits.size());
  if (max == kInfinity) {
    for (size_t i = 0; i < logits.size(); ++i) weights_[i] = logits[i] == kInfinity ? 1.0 : 0.0;
    return;
  }
  const double top = static_cast<double>(max), per_temperature = 1.0 / temperature;
  double* weights = weights_.data();
  for (size_t i = 0; i < logits.size(); ++i) weights[i] = (static_cast<double>(logits[i]) - top) * per_temperature;
  exp_nonpositive(weights_);
}

template <typename Keep>
void Sampler::keep_if(Keep keep) {
  size_t kept = 0;
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (!keep(i)) continue;
    ids_[kept] = ids_[i];
    weights_[kept++] = weights_[i];
  }
  ids_.resize(kept);
  weights_.resize(kept);
}

// Of tokens in falling order: the fewest whose weights reach `mass`.
void Sampler::keep_first(double mass) {
  double sum = 0;
  for (size_t i = 0; i < ids_.size(); ++i) {
    sum += weights_[i];
    if (sum < mass) continue;
    ids_.resize(i + 1);
    weights_.resize(i + 1);
    return;
  }
}

// The smallest set of tokens whose probabilities reach top_p, of the whole vocabulary in order of ids. Sorting it would
// cost more than all else, so weights are summed by depth below the largest logit, in bins; only the bin in which the
// sum reaches its goal is sorted.
void Sampler::keep_top_p(std::span<const float> logits, float max) {
  constexpr size_t kBins = 2048;
  constexpr double kBinsPerUnit = 64;  // what is more than 32 units deep shares the last bin
  const double per_temperature = 1.0 / static_cast<double>(options_.temperature);
  const auto bin_of = [&](float logit) {
    const double bin = depth_of(logit, max, per_temperature) * kBinsPerUnit;  // rises as logits fall
    return bin < static_cast<double>(kBins - 1) ? static_cast<size_t>(bin) : kBins - 1;
  };
  double bins[kBins] = {}, total = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    bins[bin_of(logits[i])] += weights_[i];
    total += weights_[i];
  }
  const double goal = static_cast<double>(options_.top_p) * total;
  double sum = 0;
  size_t bin = 0;
  while (bin < kBins - 1 && sum + bins[bin] < goal) sum += bins[bin++];

  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (weights_[i] > 0.0 && bin_of(logits[i]) == bin) candidates_.emplace_back(logits[i], static_cast<TokenId>(i));
  }
  std::sort(candidates_.begin(), candidates_.end(), more_likely);
  Candidate last = {-kInfinity, -1};  // the least likely that is kept; none in the bin: all of the bins before
  for (const Candidate& candidate : candidates_) {
    last = candidate;
    sum += weights_[static_cast<size_t>(candidate.second)];
    if (sum >= goal) break;
  }
  keep_if([&](size_t i) {
    const Candidate candidate{logits[i], static_cast<TokenId>(i)};
    const size_t own = bin_of(logits[i]);
    return weights_[i] > 0.0 && (own < bin || (own == bin && !more_likely(last, candidate)));
  });
}

// Fills ids_ and weights_ from the modified logits.
Status Sampler::shape(std::span<const float> logits) {
  ids_.clear();
  weights_.clear();
  float max = -kInfinity;
  TokenId best = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > max)) continue;
    max = logits[i];
    best = static_cast<TokenId>(i);
  }
  if (best < 0) return make_error(ErrorCode::kNumeric, "every logit is -inf: no token is left to choose");
  if (greedy()) {
    ids_.push_back(best);
    weights_.push_back(1.0);
    return {};
  }

  const double temperature = static_cast<double>(options_.temperature);
  if (options_.top_k > 0) {
    select_top(logits, static_cast<size_t>(options_.top_k));
    kept_logits_.clear();
    for (const auto& [logit, id] : candidates_) {
      kept_logits_.push_back(logit);
      ids_.push_back(id);
    }
    weigh(kept_logits_, max, temperature);
    double total = 0;
    for (const double weight : weights_) total += weight;
    if (options_.top_p < 1.0f) keep_first(static_cast<double>(options_.top_p) * total);
  } else {
    ids_.resize(logits.size());
    std::iota(ids_.begin(), ids_.end(), 0);
    weigh(logits, max, temperature);
    if (options_.top_p < 1.0f) keep_top_p(logits, max);
  }
  // The likeliest has weight 1.
  const double least = static_cast<double>(options_.min_p);
  if (least > 0.0) keep_if([&](size_t i) { return weights_[i] >= least; });
  return {};
}

// log sum exp of the logits is max + log_total.
struct Sampler::Normalizer {
  float max = 0;
  double log_total = 0;  // of exp(logit - max)

  float logprob(float logit) const {
    if (max == kInfinity && logit == kInfinity) return static_cast<float>(-log_total);  // inf - inf would be a NaN
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(max) - log_total);
  }
};

Sampler::Normalizer Sampler::normalizer(std::span<const float> logits) {
  Normalizer result{*std::max_element(logits.begin(), logits.end()), 0};
  weigh(logits, result.max, 1.0);
  double total = 0;
  for (const double weight : weights_) total += weight;
  result.log_total = std::log(total);
  return result;
}

Result<SampledToken> Sampler::sample(std::span<float> logits, int n_top_logprobs, ConstraintState* constraint) {
  GLIMPSE_TRY(check(logits));
  GLIMPSE_TRY(shape_modified(logits, constraint));

  SampledToken token;
  Xoshiro256 random = random_;
  size_t chosen = 0;
  if (!greedy()) {
    double total = 0;
    for (const double weight : weights_) total += weight;
    const double target = random.next_double() * total;
    // Rounding may leave the sum at or below the target: then the last token that can be drawn is.
    double sum = 0;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (weights_[i] == 0.0) continue;
      chosen = i;
      sum += weights_[i];
      if (sum > target) break;
    }
  }
  token.id = ids_[chosen];
  if (n_top_logprobs > 0) {
    const Normalizer all = normalizer(logits);
    token.logprob = all.logprob(logits[static_cast<size_t>(token.id)]);
    select_top(logits, static_cast<size_t>(n_top_logprobs));
    for (const auto& [logit, id] : candidates_) token.top.push_back({id, all.logprob(logit)});
  }
  random_ = random;
  return token;
}

}  // namespace glimpse
