#include <immintrin.h>

#include "kernels/quant/float_rows.h"

namespace glimpse {

void half_row_to_float_avx2(const std::byte* halves, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + 2 * i))));
  }
  for (; i < n; ++i) {
    uint16_t half;
    __builtin_memcpy(&half, halves + 2 * i, 2);
    out[i] = _cvtsh_ss(half);
  }
}

}  // namespace glimpse
