// For any x86-64: SSE2 is part of the baseline.
#include <emmintrin.h>

#include "bench/probe/rate_loop.h"
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
  __m128 factor = _mm_set1_ps(1.0e-3f);
  const auto first = [](int c) { return _mm_set1_ps(static_cast<float>(c)); };
  return rate_of<12, float>(operations, 2 * 4, sink, first, [&](__m128 sum) {
    __asm__ volatile("" : "+x"(factor));  // or the product would be computed once
    return _mm_add_ps(sum, _mm_mul_ps(factor, factor));
  });
}

}  // namespace glimpse::bench
