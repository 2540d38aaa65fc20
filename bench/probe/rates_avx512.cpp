#include <immintrin.h>

#include "bench/probe/rates.h"

namespace glimpse::bench {

uint64_t read_bytes_avx512(const std::byte* data, size_t n_bytes) {
  __m512i sums[4] = {};
  for (size_t i = 0; i < n_bytes; i += 256) {
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) sums[j] = _mm512_xor_si512(sums[j], _mm512_load_si512(data + i + 64 * j));
  }
  alignas(64) uint64_t lanes[8];
  _mm512_store_si512(lanes, _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3])));
  uint64_t all = 0;
  for (const uint64_t lane : lanes) all ^= lane;
  return all;
}

double fma_rate_avx512(double operations, float* sink) {
  constexpr int kChains = 16, kSteps = 1024;
  __m512 sums[kChains], a = _mm512_set1_ps(1.0e-3f);
  for (int c = 0; c < kChains; ++c) sums[c] = _mm512_set1_ps(static_cast<float>(c));
  double done = 0;
  while (done < operations) {
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; ++c) sums[c] = _mm512_fmadd_ps(a, a, sums[c]);
    }
    done += 2.0 * 16 * kChains * kSteps;
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_ps(sums[0], sums[c]);
  *sink = _mm512_cvtss_f32(sums[0]);
  return done;
}

}  // namespace glimpse::bench
