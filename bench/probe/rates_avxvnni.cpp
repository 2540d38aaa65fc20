#include <immintrin.h>

#include "bench/probe/rates.h"

namespace glimpse::bench {

double int8_rate_avxvnni(double operations, float* sink) {
  constexpr int kChains = 12, kSteps = 1024;
  const __m256i codes = _mm256_set1_epi32(0x03030303), values = _mm256_set1_epi32(static_cast<int>(0xfefefefeu));
  __m256i sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = _mm256_set1_epi32(c);
  double done = 0;
  while (done < operations) {
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) sums[c] = _mm256_dpbusd_avx_epi32(sums[c], codes, values);
    }
    done += 2.0 * 32 * kChains * kSteps;
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_epi32(sums[0], sums[c]);
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums[0]);
  *sink = static_cast<float>(lanes[0]);
  return done;
}

}  // namespace glimpse::bench
