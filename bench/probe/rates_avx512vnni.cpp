#include <immintrin.h>

#include "bench/probe/rates.h"

namespace glimpse::bench {

double int8_rate_avx512vnni(double operations, float* sink) {
  constexpr int kChains = 16, kSteps = 1024;
  const __m512i codes = _mm512_set1_epi32(0x03030303), values = _mm512_set1_epi32(static_cast<int>(0xfefefefeu));
  __m512i sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = _mm512_set1_epi32(c);
  double done = 0;
  while (done < operations) {
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], codes, values);
    }
    done += 2.0 * 64 * kChains * kSteps;
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_epi32(sums[0], sums[c]);
  alignas(64) int32_t lanes[16];
  _mm512_store_si512(lanes, sums[0]);
  *sink = static_cast<float>(lanes[0]);
  return done;
}

}  // namespace glimpse::bench
