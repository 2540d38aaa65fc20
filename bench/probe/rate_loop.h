// The loop of every rate. Included only by files of one instruction set; internal linkage.
#pragma once

#include "kernels/simd/inline.h"

namespace glimpse::bench {
namespace {

/// Runs sum = step(sum) on kChains sums that begin as first(0), first(1), ...; an instruction counts as
/// `per_instruction` operations. *sink: the first lane of all sums together. Unrolled all over, or gcc 12 keeps the
/// sums in memory, at half the rate.
template <int kChains, class Lane, class First, class Step>
GLIMPSE_INLINE double rate_of(double operations, int per_instruction, float* sink, First first, Step step) {
  constexpr int kSteps = 1024;
  decltype(first(0)) sums[kChains];
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) sums[c] = first(c);
  double done = 0;
  while (done < operations) {
    for (int s = 0; s < kSteps; ++s) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; ++c) sums[c] = step(sums[c]);
    }
    done += static_cast<double>(per_instruction) * kChains * kSteps;
  }
  // In unsigned lanes of 64 bits where they are integers: the lowest bits are those of narrower lanes.
#pragma GCC unroll 16
  for (int c = 1; c < kChains; ++c) {
    if constexpr (static_cast<Lane>(0.5f) != 0) {
      sums[0] = sums[0] + sums[c];
    } else {
      typedef unsigned long long Words __attribute__((vector_size(sizeof sums[0])));
      const Words sum = __builtin_bit_cast(Words, sums[0]) + __builtin_bit_cast(Words, sums[c]);
      __builtin_memcpy(&sums[0], &sum, sizeof sum);
    }
  }
  Lane lane;
  __builtin_memcpy(&lane, &sums[0], sizeof lane);
  *sink = static_cast<float>(lane);
  return done;
}

}  // namespace
}  // namespace glimpse::bench
