#include <immintrin.h>

#include "bench/probe/rate_loop.h"
#include "bench/probe/rates.h"

namespace glimpse::bench {

double bf16_rate_avx512bf16(double operations, float* sink) {
  const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3c003c00);
  const auto first = [](int c) { return _mm512_set1_ps(static_cast<float>(c)); };
  return rate_of<16, float>(operations, 2 * 32, sink, first, [&](__m512 sum) { return _mm512_dpbf16_ps(sum, a, a); });
}

}  // namespace glimpse::bench
