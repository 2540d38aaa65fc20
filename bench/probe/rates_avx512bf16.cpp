#include <immintrin.h>

#include "bench/probe/rates.h"

namespace glimpse::bench {

double bf16_rate_avx512bf16(double operations, float* sink) {
  constexpr int kChains = 16, kSteps = 1024;
  const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3c003c00);
  __m512 sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = _mm512_set1_ps(static_cast<float>(c));
  double done = 0;
  while (done < operations) {
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], a, a);
    }
    done += 2.0 * 32 * kChains * kSteps;
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_ps(sums[0], sums[c]);
  *sink = _mm512_cvtss_f32(sums[0]);
  return done;
}

}  // namespace glimpse::bench
