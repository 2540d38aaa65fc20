// Words of 16 rows side by side, in registers. Included only by *_avx512*.cpp files; everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

/// In four steps, each of which pairs vectors: words, then pairs of words, then quarters, then halves. Word w of all
/// rows in lane order becomes a[w]. What is not used costs nothing once it is inlined.
GLIMPSE_INLINE void transpose_words(__m512i (&a)[16]) {
  __m512i b[16], c[16];
  for (int i = 0; i < 8; ++i) {  // b[2i], b[2i + 1]: rows 2i and 2i + 1, words 0 1 and 2 3 of each quarter
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {  // c[4i + w]: rows 4i to 4i + 3, word w of each quarter
    c[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    c[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    c[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    c[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  for (int w = 0; w < 4; ++w) {  // quarter k of c[4i + w] is word 4k + w of rows 4i to 4i + 3
    const __m512i low01 = _mm512_shuffle_i32x4(c[w], c[4 + w], 0x44),
                  low23 = _mm512_shuffle_i32x4(c[8 + w], c[12 + w], 0x44);
    const __m512i high01 = _mm512_shuffle_i32x4(c[w], c[4 + w], 0xee),
                  high23 = _mm512_shuffle_i32x4(c[8 + w], c[12 + w], 0xee);
    a[w] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    a[4 + w] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    a[8 + w] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    a[12 + w] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
}

/// words[w], w < n <= 16: word w of 16 rows, which start at `row`, row_bytes apart. Nothing behind the n words is read.
template <int n>
GLIMPSE_INLINE void load_words(const uint8_t* row, uint64_t row_bytes, __m512i* words) {
  static_assert(n > 0 && n <= 16);
  __m512i a[16];
  for (int r = 0; r < 16; ++r) {
    const uint8_t* from = row + static_cast<uint64_t>(r) * row_bytes;
    a[r] = n == 16 ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1 << n) - 1), from);
  }
  transpose_words(a);
  for (int w = 0; w < n; ++w) words[w] = a[w];
}

/// The low halves of 16 words, then their high halves, 16 bits each; any alignment.
GLIMPSE_INLINE void store_halves(uint8_t* low, uint8_t* high, __m512i words) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm512_cvtepi32_epi16(words));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
}

}  // namespace
}  // namespace glimpse
