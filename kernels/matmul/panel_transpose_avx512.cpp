#include <immintrin.h>

#include "kernels/matmul/panel_transpose.h"

namespace glimpse {

// In four steps, each of which pairs vectors: words, then pairs of words, then quarters, then halves.
void transpose_words_avx512(const std::byte* rows, uint64_t row_bytes, int64_t n_words, std::byte* out) {
  for (int64_t first = 0; first < n_words; first += 16, rows += 64, out += 16 * 64) {
    __m512i a[16], b[16];
    for (int r = 0; r < 16; ++r) a[r] = _mm512_loadu_si512(rows + static_cast<uint64_t>(r) * row_bytes);
    for (int i = 0; i < 8; ++i) {  // b[2i], b[2i + 1]: rows 2i and 2i + 1, words 0 1 and 2 3 of each quarter
      b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
      b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {  // a[4i + w]: rows 4i to 4i + 3, word w of each quarter
      a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
      a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
      a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
      a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
    }
    for (int w = 0; w < 4; ++w) {  // quarter k of a[4i + w] is word 4k + w of rows 4i to 4i + 3
      const __m512i low01 = _mm512_shuffle_i32x4(a[w], a[4 + w], 0x44),
                    low23 = _mm512_shuffle_i32x4(a[8 + w], a[12 + w], 0x44);
      const __m512i high01 = _mm512_shuffle_i32x4(a[w], a[4 + w], 0xee),
                    high23 = _mm512_shuffle_i32x4(a[8 + w], a[12 + w], 0xee);
      _mm512_storeu_si512(out + 64 * w, _mm512_shuffle_i32x4(low01, low23, 0x88));
      _mm512_storeu_si512(out + 64 * (4 + w), _mm512_shuffle_i32x4(low01, low23, 0xdd));
      _mm512_storeu_si512(out + 64 * (8 + w), _mm512_shuffle_i32x4(high01, high23, 0x88));
      _mm512_storeu_si512(out + 64 * (12 + w), _mm512_shuffle_i32x4(high01, high23, 0xdd));
    }
  }
}

}  // namespace glimpse
