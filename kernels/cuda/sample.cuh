// Draws a token on the device: temperature, top-k, top-p, min-p, in the order of engine/generate/sampler.h. One block
// per row of logits.
//
// Weights are integers: exp((x - max) / temperature) in units of 2^-40, so that sums do not depend on the order in
// which threads add. Thresholds are found digit by digit on the bits of the logits (radix select); of equal logits the
// lowest ids are kept; the token is the first, by id, at which the running sum of kept weights exceeds u times the
// total.
//
// With top-k the walks are over candidates only: those that are not below the top_k-th greatest of the threads' own
// greatest. Greedy and in a step, the product of the head has found the greatest already (LinearArgs::best).
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/epilogue.cuh"

namespace glimpse::cuda {

constexpr int kSampleThreads = 1024;
constexpr int kDigits = 256;
constexpr int kMostCandidates = 4096;
constexpr int kLogitsTogether = 8;  // that a thread loads before it looks at the first: a row is read at L2's latency

struct SampleShared {
  float greatest[kSampleThreads];  // of the logits that a thread saw
  float logit[kMostCandidates];    // of candidates, ids ascending
  int id[kMostCandidates];
  uint64_t mass[kDigits];
  uint64_t sums[kSampleThreads];
  uint64_t group_sums[kSampleThreads / kWarp];
  int group_counts[kSampleThreads / kWarp];
  int digits[kDigits];
  float best[kSampleThreads / kWarp];
  int best_id[kSampleThreads / kWarp];
  uint64_t above;  // what keys greater than all with the prefix reach
  int invalid;
  uint32_t prefix;  // of the key of the last token kept
  int keep_equal;   // how many tokens with exactly that key are kept
};

/// What is left after a threshold: keys above, and the first keep_equal (by id) of those equal to it.
struct Threshold {
  uint32_t key = 0;
  int keep_equal = 0x7fffffff;
};

GLIMPSE_DEVICE uint64_t sample_weight(float x, float max, float temperature) {
  float e;
  if (x == max) {
    e = 1;  // an infinite maximum, too
  } else {
    e = expf((x - max) / temperature);
  }
  return static_cast<uint64_t>(e * 1099511627776.0f);
}

/// Sums over the threads before this one, for values that each thread brings; total in `all`. Contains barriers.
GLIMPSE_DEVICE uint64_t exclusive_sum(uint64_t mine, SampleShared& s, uint64_t& all) {
  constexpr int n_groups = kSampleThreads / kWarp;
  s.sums[thread_index()] = mine;
  barrier();
  if (lane_index() == 0) {
    uint64_t sum = 0;
    for (int i = 0; i < kWarp; ++i) {
      const uint64_t value = s.sums[warp_index() * kWarp + i];
      s.sums[warp_index() * kWarp + i] = sum;
      sum += value;
    }
    s.group_sums[warp_index()] = sum;
  }
  barrier();
  uint64_t before = 0;
  all = 0;
  for (int i = 0; i < n_groups; ++i) {
    if (i < warp_index()) before += s.group_sums[i];
    all += s.group_sums[i];
  }
  before += s.sums[thread_index()];
  barrier();
  return before;
}

/// Logits whose key is at least `least`, with their ids in ascending order, into s.logit and s.id; returns how many
/// there are, more than fit being left out. Warps take neighbouring parts of the row. Contains barriers.
GLIMPSE_DEVICE int gather_candidates(const float* logits, int vocab, uint32_t least, SampleShared& s) {
  constexpr int n_warps = kSampleThreads / kWarp;
  const int share = (vocab + kSampleThreads - 1) / kSampleThreads * kWarp;
  const int begin = warp_index() * share, end = begin + share < vocab ? begin + share : vocab;
  constexpr int together = kLogitsTogether * kWarp;
  const auto load = [&](int first, float(&x)[kLogitsTogether]) {
    GLIMPSE_UNROLL
    for (int u = 0; u < kLogitsTogether; ++u) {
      const int i = first + u * kWarp + lane_index();
      x[u] = logits[i < end ? i : begin];
    }
  };
  const auto wanted = [&](float x, int i) { return i < end && sort_key(x) >= least; };
  int mine = 0;
  GLIMPSE_NO_UNROLL
  for (int first = begin; first < end; first += together) {
    float x[kLogitsTogether];
    load(first, x);
    GLIMPSE_UNROLL
    for (int u = 0; u < kLogitsTogether; ++u) {
      mine += count_bits(ballot(wanted(x[u], first + u * kWarp + lane_index())));
    }
  }
  if (lane_index() == 0) s.group_counts[warp_index()] = mine;
  barrier();
  int at = 0, n = 0;
  for (int w = 0; w < n_warps; ++w) {
    if (w < warp_index()) at += s.group_counts[w];
    n += s.group_counts[w];
  }
  if (n <= kMostCandidates && mine > 0) {
    GLIMPSE_NO_UNROLL
    for (int first = begin; first < end; first += together) {
      float x[kLogitsTogether];
      load(first, x);
      GLIMPSE_UNROLL
      for (int u = 0; u < kLogitsTogether; ++u) {
        const int i = first + u * kWarp + lane_index();
        const bool in = wanted(x[u], i);
        const uint32_t mask = ballot(in);
        const int place = at + count_bits(mask & ((1u << lane_index()) - 1));
        if (in) s.logit[place] = x[u], s.id[place] = i;
        at += count_bits(mask);
      }
    }
  }
  barrier();
  return n;
}

/// What was drawn for the block's row, by one thread. place: in args.ids.
GLIMPSE_DEVICE void give_token(const SampleArgs& args, int place, int id) {
  args.ids[place] = id;
  if (args.step == nullptr) return;
  StepState& step = args.step[block_x()];
  ++step.index;
  if (id < 0) return;
  step.token = id;
  ++step.n_past;
  ++step.rope_row;
}

/// What a row's greatest logit is, the lowest id of equal ones; in every thread. Contains barriers.
struct Greatest {
  float logit;
  int id;      // the vocabulary's size: there is none
  bool valid;  // no NaN, and in a step no infinity
};
GLIMPSE_DEVICE Greatest find_greatest(const SampleArgs& args, const float* logits, SampleShared& s) {
  const int me = thread_index(), vocab = args.vocab;
  if (me == 0) s.invalid = 0;
  barrier();
  float best = -INFINITY;
  int best_id = vocab;
  bool bad = false;
  GLIMPSE_NO_UNROLL
  for (int first = me; first < vocab; first += kLogitsTogether * kSampleThreads) {
    float x[kLogitsTogether];
    GLIMPSE_UNROLL
    for (int u = 0; u < kLogitsTogether; ++u) {
      const int i = first + u * kSampleThreads;
      x[u] = logits[i < vocab ? i : me];  // what it has seen, again
    }
    GLIMPSE_UNROLL
    for (int u = 0; u < kLogitsTogether; ++u) {
      bad |= x[u] != x[u] || (args.step != nullptr && fabsf(x[u]) == INFINITY);
      if (x[u] > best) best = x[u], best_id = first + u * kSampleThreads;
    }
  }
  s.greatest[me] = best;
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const float other = shuffle_xor(best, mask);
    const int id = shuffle_xor(best_id, mask);
    if (other > best || (other == best && id < best_id)) best = other, best_id = id;
  }
  if (ballot(bad) != 0 && lane_index() == 0) atomic_or(&s.invalid, 1);
  if (lane_index() == 0) s.best[warp_index()] = best, s.best_id[warp_index()] = best_id;
  barrier();
  for (int i = 0; i < kSampleThreads / kWarp; ++i) {
    if (s.best[i] > best || (s.best[i] == best && s.best_id[i] < best_id)) best = s.best[i], best_id = s.best_id[i];
  }
  return {best, best_id, s.invalid == 0};
}

/// The tokens of a row, in walks: each thread owns consecutive ones, so that ranks among equal keys and running sums
/// follow the ids.
struct Walk {
  const SampleArgs& args;
  SampleShared& s;
  const float best;               // the greatest logit
  const float* values = nullptr;  // what is walked over
  const int* ids = nullptr;       // of the values; null: the indices
  int begin = 0, end = 0;         // this thread's
  Threshold top_k = {}, top_p = {};
  int top_k_first = 0, top_p_first = 0;  // rank of this thread's first token with exactly the threshold's key

  GLIMPSE_DEVICE void over(const float* of, const int* their_ids, int n) {
    const int me = thread_index(), share = (n + kSampleThreads - 1) / kSampleThreads;
    values = of, ids = their_ids;
    begin = me * share < n ? me * share : n;
    end = begin + share < n ? begin + share : n;
  }
  /// rank: of the token at hand among those with the threshold's key, kept or not.
  GLIMPSE_DEVICE static bool passes(uint32_t key, const Threshold& threshold, int& rank) {
    if (key > threshold.key) return true;
    return key == threshold.key && rank++ < threshold.keep_equal;
  }
  GLIMPSE_DEVICE int rank_before(const Threshold& threshold) {
    uint64_t equal = 0, all = 0;
    for (int i = begin; i < end; ++i) equal += sort_key(values[i]) == threshold.key ? 1 : 0;
    return static_cast<int>(exclusive_sum(equal, s, all));
  }
  GLIMPSE_DEVICE uint64_t weight(int i) const { return sample_weight(values[i], best, args.temperature); }
  /// The same with all three limits. Both ranks count every token with the threshold's key.
  GLIMPSE_DEVICE uint64_t kept_weight(int i, int& top_k_rank, int& top_p_rank) const {
    const uint32_t key = sort_key(values[i]);
    const bool in_k = passes(key, top_k, top_k_rank), in_p = passes(key, top_p, top_p_rank);
    if (!in_k || !in_p) return 0;
    const uint64_t w = weight(i);
    return w < static_cast<uint64_t>(args.min_p * 1099511627776.0f) ? uint64_t{0} : w;
  }

  /// The last of four digits is `shift` 0. By the first warp: the bucket in which `target` is reached when what lies in
  /// greater keys is counted off; becomes part of s.prefix. A lane has neighbouring digits, the first lane the
  /// greatest.
  GLIMPSE_DEVICE void take_digit(bool by_mass, int shift, uint64_t target) {
    constexpr int kOfLane = kDigits / kWarp;
    const int lane = lane_index(), greatest = kDigits - 1 - kOfLane * lane;
    // Numbers of tokens are the digits' own: they need no 64 bits.
    const auto reached = [&](int d) { return by_mass ? s.mass[d] : static_cast<uint64_t>(s.digits[d]); };
    uint64_t mine = 0;
    int lowest = -1;  // that any token has: rounding must not walk past it
    GLIMPSE_UNROLL
    for (int d = greatest; d > greatest - kOfLane; --d) {
      mine += reached(d);
      lowest = s.digits[d] > 0 ? d : lowest;
    }
    if (ballot(lowest >= 0) >> lane != 1u) lowest = -1;  // another lane has it
    s.sums[lane] = mine;
    warp_barrier();
    uint64_t above = s.above;
    for (int l = 0; l < lane; ++l) above += s.sums[l];
    int digit = -1;
    for (int d = greatest; d > greatest - kOfLane && digit < 0; --d) {
      if (d == lowest || above + reached(d) >= target) {
        digit = d;
      } else {
        above += reached(d);
      }
    }
    if ((ballot(digit >= 0) & ((2u << lane) - 1)) != 1u << lane) return;  // not the first that found one
    s.above = above;
    s.prefix |= static_cast<uint32_t>(digit) << shift;
    if (shift > 0) return;
    // All tokens of this bucket have one key, so one weight.
    const uint64_t equal = static_cast<uint64_t>(s.digits[digit]), each = reached(digit) / equal;
    const uint64_t missing = target - above;
    uint64_t keep = each == 0 ? equal : (missing + each - 1) / each;
    if (keep > equal) keep = equal;
    s.keep_equal = keep < 1 ? 1 : static_cast<int>(keep);
  }
  /// The threshold that keeps `target`, found digit by digit from the top. by_mass: target is a sum of weights (of
  /// tokens that pass top_k), else a number of tokens.
  GLIMPSE_DEVICE Threshold select(bool by_mass, uint64_t target) {
    const int me = thread_index();
    if (me == 0) s.prefix = 0, s.above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      for (int i = me; i < kDigits; i += kSampleThreads) s.mass[i] = 0, s.digits[i] = 0;
      barrier();
      const uint32_t prefix = s.prefix;
      int rank = top_k_first;
      GLIMPSE_UNROLL_BY(2)
      for (int i = begin; i < end; ++i) {
        const uint32_t key = sort_key(values[i]);
        if (by_mass && !passes(key, top_k, rank)) continue;
        if (shift < 24 && key >> (shift + 8) != prefix >> (shift + 8)) continue;
        const int digit = static_cast<int>(key >> shift & 255u);
        if (by_mass) atomic_add(&s.mass[digit], weight(i));
        atomic_add(&s.digits[digit], 1);
      }
      barrier();
      if (warp_index() == 0) take_digit(by_mass, shift, target);
      barrier();
    }
    const Threshold found{s.prefix, s.keep_equal};
    barrier();
    return found;
  }

  GLIMPSE_DEVICE void limit_top_k(const float* logits) {
    const int vocab = args.vocab;
    if (args.top_k <= 0 || args.top_k >= vocab) return;
    if (args.top_k <= kSampleThreads && vocab > kMostCandidates) {
      over(s.greatest, nullptr, kSampleThreads);
      // As many tokens as are wanted are not below this one.
      const uint32_t least = select(false, static_cast<uint64_t>(args.top_k)).key;
      const int n = gather_candidates(logits, vocab, least, s);
      if (n <= kMostCandidates) {
        over(s.logit, s.id, n);
      } else {
        over(logits, nullptr, vocab);
      }
    }
    top_k = select(false, static_cast<uint64_t>(args.top_k));
    top_k_first = rank_before(top_k);
  }
  GLIMPSE_DEVICE void limit_top_p() {
    if (args.top_p >= 1.0f) return;
    uint64_t mine = 0, all = 0;
    int rank = top_k_first;
    for (int i = begin; i < end; ++i) {
      if (passes(sort_key(values[i]), top_k, rank)) mine += weight(i);
    }
    exclusive_sum(mine, s, all);
    const uint64_t target = static_cast<uint64_t>(static_cast<double>(args.top_p) * static_cast<double>(all));
    top_p = select(true, target < 1 ? 1 : target);
    top_p_first = rank_before(top_p);
  }
  /// The thread whose token it is gives it.
  GLIMPSE_DEVICE void draw(int place) {
    uint64_t mine = 0, all = 0;
    int top_k_rank = top_k_first, top_p_rank = top_p_first;
    for (int i = begin; i < end; ++i) mine += kept_weight(i, top_k_rank, top_p_rank);
    const uint64_t before = exclusive_sum(mine, s, all);
    uint64_t target = static_cast<uint64_t>(static_cast<double>(args.uniform[place]) * static_cast<double>(all));
    if (target >= all) target = all - 1;
    if (before > target || target >= before + mine) return;
    uint64_t sum = before;
    top_k_rank = top_k_first, top_p_rank = top_p_first;
    for (int i = begin; i < end; ++i) {
      sum += kept_weight(i, top_k_rank, top_p_rank);
      if (sum > target) return give_token(args, place, ids != nullptr ? ids[i] : i);
    }
  }
};

/// Grid: x: rows. Shared: sizeof(SampleShared).
GLIMPSE_DEVICE void sample(const SampleArgs& args) {
  launch_dependents();
  dependency_wait();
  SampleShared& s = *reinterpret_cast<SampleShared*>(shared());
  const float* const logits = args.logits + block_x() * args.ld;
  const int place = args.step != nullptr ? block_x() * kStepRing + args.step[block_x()].index % kStepRing : block_x();
  const bool greedy = args.temperature < 1e-5f || args.top_k == 1;
  if (greedy && args.best != nullptr) {
    if (thread_index() == 0) {
      const uint64_t ranked = *args.best;
      *args.best = 0;
      give_token(args, place, ranked_id(ranked));
    }
    return;
  }
  const Greatest greatest = find_greatest(args, logits, s);
  const bool none = !greatest.valid || greatest.id == args.vocab;
  if (none || greedy) {
    if (thread_index() == 0) give_token(args, place, none ? -1 : greatest.id);
    return;
  }
  Walk walk{args, s, greatest.logit};
  walk.over(logits, nullptr, args.vocab);
  walk.limit_top_k(logits);
  walk.limit_top_p();
  walk.draw(place);
}

}  // namespace glimpse::cuda
