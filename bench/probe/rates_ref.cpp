// For any x86-64: SSE2 is part of the baseline.
#include <emmintrin.h>

#include "bench/probe/rates.h"

namespace glimpse::bench {

uint64_t read_bytes_ref(const std::byte* data, size_t n_bytes) {
  __m128i sums[4] = {};
  for (size_t i = 0; i < n_bytes; i += 64) {
    for (size_t j = 0; j < 4; ++j) {
      sums[j] = _mm_xor_si128(sums[j], _mm_load_si128(reinterpret_cast<const __m128i*>(data + i + 16 * j)));
    }
  }
  alignas(16) uint64_t lanes[2];
  _mm_store_si128(reinterpret_cast<__m128i*>(lanes),
                  _mm_xor_si128(_mm_xor_si128(sums[0], sums[1]), _mm_xor_si128(sums[2], sums[3])));
  return lanes[0] ^ lanes[1];
}

double fma_rate_ref(double operations, float* sink) {
  constexpr int kChains = 12, kSteps = 1024;
  __m128 sums[kChains], factor = _mm_set1_ps(1.0e-3f);
  for (int c = 0; c < kChains; ++c) sums[c] = _mm_set1_ps(static_cast<float>(c));
  double done = 0;
  while (done < operations) {
    for (int step = 0; step < kSteps; ++step) {
      __asm__ volatile("" : "+x"(factor));  // or the product would be computed once
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) sums[c] = _mm_add_ps(sums[c], _mm_mul_ps(factor, factor));
    }
    done += 2.0 * 4 * kChains * kSteps;
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm_add_ps(sums[0], sums[c]);
  *sink = _mm_cvtss_f32(sums[0]);
  return done;
}

}  // namespace glimpse::bench
