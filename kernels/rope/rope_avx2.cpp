// Rotary embedding for AVX2; the same bits as rope_avx512.cpp.
#include <immintrin.h>

#include "kernels/rope/rope_isa.h"
#include "kernels/simd/row_avx2.h"

namespace glimpse {

void rope_head_avx2(float* x, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t j = 0; j < half; j += 8) {
    const int64_t count = half - j;
    const __m256 a = load_row_avx2(x + j, count), b = load_row_avx2(x + half + j, count);
    const __m256 c = load_row_avx2(cos + j, count), s = load_row_avx2(sin + j, count);
    store_row_avx2(x + j, count, _mm256_fnmadd_ps(b, s, _mm256_mul_ps(a, c)));
    store_row_avx2(x + half + j, count, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
  }
}

}  // namespace glimpse
