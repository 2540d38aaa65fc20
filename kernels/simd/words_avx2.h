// Words of 8 rows side by side, in registers. Included only by *_avx2.cpp files; everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

/// In three steps: words, pairs of words, halves. Word w of all rows in lane order becomes a[w].
GLIMPSE_INLINE void transpose_words(__m256i (&a)[8]) {
  __m256i b[8], c[8];
  for (int i = 0; i < 4; ++i) {  // b[2i], b[2i + 1]: rows 2i and 2i + 1, words 0 1 and 2 3 of each half
    b[2 * i] = _mm256_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {  // c[4i + w]: rows 4i to 4i + 3, word w of each half
    c[4 * i] = _mm256_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    c[4 * i + 1] = _mm256_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    c[4 * i + 2] = _mm256_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    c[4 * i + 3] = _mm256_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  for (int w = 0; w < 4; ++w) {
    a[w] = _mm256_permute2x128_si256(c[w], c[4 + w], 0x20);
    a[4 + w] = _mm256_permute2x128_si256(c[w], c[4 + w], 0x31);
  }
}

/// words[w], w < n <= 8: word w of 8 rows, which start at `row`, row_bytes apart. Nothing behind the n words is read.
template <int n>
GLIMPSE_INLINE void load_words(const uint8_t* row, uint64_t row_bytes, __m256i* words) {
  static_assert(n > 0 && n <= 8);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  __m256i a[8];
  for (int r = 0; r < 8; ++r) {
    const uint8_t* from = row + static_cast<uint64_t>(r) * row_bytes;
    a[r] = n == 8 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))
                  : _mm256_maskload_epi32(reinterpret_cast<const int*>(from), mask);
  }
  transpose_words(a);
  for (int w = 0; w < n; ++w) words[w] = a[w];
}

/// The low halves of 8 words, then their high halves, 16 bits each; any alignment.
GLIMPSE_INLINE void store_halves(uint8_t* low, uint8_t* high, __m256i words) {
  const __m256i lows = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
  // Packing works inside halves: low 0-3, high 0-3, low 4-7, high 4-7.
  const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(lows, _mm256_srli_epi32(words, 16)), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm256_castsi256_si128(both));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), _mm256_extracti128_si256(both, 1));
}

}  // namespace
}  // namespace glimpse
