// Rotary embedding for AVX-512.
#include <immintrin.h>

#include "kernels/rope/rope_isa.h"
#include "kernels/simd/row_avx512.h"

namespace glimpse {

void rope_head_avx512(float* x, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t j = 0; j < half; j += 16) {
    const int64_t count = half - j;
    const __m512 a = load_row_avx512(x + j, count), b = load_row_avx512(x + half + j, count);
    const __m512 c = load_row_avx512(cos + j, count), s = load_row_avx512(sin + j, count);
    store_row_avx512(x + j, count, _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c)));
    store_row_avx512(x + half + j, count, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
  }
}

}  // namespace glimpse
