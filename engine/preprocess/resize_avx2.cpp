// Both passes with 16-bit multiply-add: a weight of 22 fractional bits is split into a high part and a low part of
// 12 bits, each is multiplied with the pixels by vpmaddwd (two taps at a time), and the sums are put together again.
// Sums wrap around 2^32 on the way; the total fits, so the result is exact.
//
// Per 4 taps and row: one load, one shuffle, two multiply-adds, two adds, where 32-bit multiplies would need 12
// products at half the rate.
#include <immintrin.h>

#include <cstdint>

#include "engine/preprocess/resize_kernels.h"

namespace glimpse {
namespace {

constexpr int32_t kHalf = 1 << (kResizeWeightBits - 1);

__m128i load_16(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
__m256i load_32(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// Pixels r0 g0 b0 r1 ... of 4 taps, as pairs of 16-bit numbers: lane 0 gets taps 0 and 1 (r0 r1 g0 g1 b0 b1 0 0),
// lane 1 taps 2 and 3.
__m256i pair_taps(const uint8_t* pixels) {
  const __m256i order = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_16(pixels)), order);
}

// (high << 12) + low, summed over both lanes, rounded and shifted: 32-bit r, g, b, 0.
__m128i finish(__m256i high, __m256i low) {
  const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, kResizeLowBits), low);
  const __m128i total = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  return _mm_srai_epi32(_mm_add_epi32(total, _mm_set1_epi32(kHalf)), kResizeWeightBits);
}

// Writes r, g, b of `pixel` (low byte first). whole: 4 bytes may be written, the fourth is overwritten later.
void store_pixel(uint8_t* out, uint32_t pixel, bool whole) {
  if (whole) {
    _mm_storeu_si32(out, _mm_cvtsi32_si128(static_cast<int32_t>(pixel)));
  } else {
    out[0] = static_cast<uint8_t>(pixel);
    out[1] = static_cast<uint8_t>(pixel >> 8);
    out[2] = static_cast<uint8_t>(pixel >> 16);
  }
}

// n_rows rows (1 or 4) at once, so that a filter's weights are loaded once for all of them.
template <int n_rows>
void horizontal_rows(const ResizeFilterView& filter, const uint8_t* in, int64_t in_stride, uint8_t* out) {
  const int64_t out_stride = filter.n_outputs * 3;
  const __m256i pick_high = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  const __m256i pick_low = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
  for (int64_t i = 0; i < filter.n_outputs; ++i) {
    const uint8_t* pixels = in + filter.first[i] * int64_t{3};
    const int16_t* split = filter.split + i * filter.n_taps * 2;
    const int64_t n_groups = (filter.count[i] + 3) / 4;
    __m256i high[n_rows], low[n_rows];
    for (int r = 0; r < n_rows; ++r) high[r] = low[r] = _mm256_setzero_si256();
    for (int64_t group = 0; group < n_groups; ++group) {
      const __m256i weights = _mm256_broadcastsi128_si256(load_16(reinterpret_cast<const uint8_t*>(split + group * 8)));
      const __m256i weights_high = _mm256_permutevar8x32_epi32(weights, pick_high);
      const __m256i weights_low = _mm256_permutevar8x32_epi32(weights, pick_low);
      for (int r = 0; r < n_rows; ++r) {
        const __m256i pairs = pair_taps(pixels + r * in_stride + group * 12);
        high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(pairs, weights_high));
        low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(pairs, weights_low));
      }
    }
    const bool whole = i + 1 < filter.n_outputs;
    for (int r = 0; r < n_rows; ++r) {
      const __m128i level = finish(high[r], low[r]);
      const __m128i words = _mm_packs_epi32(level, level);
      const auto pixel = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)));
      store_pixel(out + r * out_stride + i * 3, pixel, whole);
    }
  }
}

// 32 neighbouring bytes of one output row. column: the first input row at these bytes.
void vertical_block(const ResizeFilterView& filter, int64_t i, const uint8_t* column, int64_t row_bytes, uint8_t* out) {
  const int64_t count = filter.count[i];
  const auto* split = reinterpret_cast<const int32_t*>(filter.split + i * filter.n_taps * 2);  // pairs of 16 bits
  const __m256i zero = _mm256_setzero_si256();
  __m256i high[4] = {zero, zero, zero, zero}, low[4] = {zero, zero, zero, zero};
  for (int64_t k = 0; k < count; k += 2) {
    const int32_t* group = split + k / 4 * 4;  // high 0 1, high 2 3, low 0 1, low 2 3
    const __m256i weights_high = _mm256_set1_epi32(group[k / 2 % 2]);
    const __m256i weights_low = _mm256_set1_epi32(group[2 + k / 2 % 2]);
    const __m256i a = load_32(column + k * row_bytes);
    const __m256i b = load_32(column + (k + 1 < count ? k + 1 : k) * row_bytes);  // the tap past the end weighs 0
    const __m256i ab_low = _mm256_unpacklo_epi8(a, b), ab_high = _mm256_unpackhi_epi8(a, b);
    // In each lane: columns 0-3, 4-7, 8-11, 12-15.
    const __m256i pairs[4] = {_mm256_unpacklo_epi8(ab_low, zero), _mm256_unpackhi_epi8(ab_low, zero),
                              _mm256_unpacklo_epi8(ab_high, zero), _mm256_unpackhi_epi8(ab_high, zero)};
    for (int j = 0; j < 4; ++j) {
      high[j] = _mm256_add_epi32(high[j], _mm256_madd_epi16(pairs[j], weights_high));
      low[j] = _mm256_add_epi32(low[j], _mm256_madd_epi16(pairs[j], weights_low));
    }
  }
  __m256i level[4];
  for (int j = 0; j < 4; ++j) {
    const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high[j], kResizeLowBits), low[j]);
    level[j] = _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(kHalf)), kResizeWeightBits);
  }
  const __m256i bytes =
      _mm256_packus_epi16(_mm256_packs_epi32(level[0], level[1]), _mm256_packs_epi32(level[2], level[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
}

}  // namespace

void resize_horizontal_avx2(const ResizeFilterView& filter, const uint8_t* in, int64_t in_stride, int64_t n_rows,
                            uint8_t* out) {
  const int64_t out_stride = filter.n_outputs * 3;
  int64_t row = 0;
  for (; row + 4 <= n_rows; row += 4) {
    horizontal_rows<4>(filter, in + row * in_stride, in_stride, out + row * out_stride);
  }
  for (; row < n_rows; ++row) horizontal_rows<1>(filter, in + row * in_stride, in_stride, out + row * out_stride);
}

void resize_vertical_avx2(const ResizeFilterView& filter, const uint8_t* in, int64_t in_row, int64_t row_bytes,
                          int64_t begin, int64_t end, uint8_t* out) {
  if (row_bytes < 32) return resize_vertical_ref(filter, in, in_row, row_bytes, begin, end, out);
  for (int64_t i = begin; i < end; ++i, out += row_bytes) {
    const uint8_t* rows = in + (filter.first[i] - in_row) * row_bytes;
    for (int64_t x = 0; x < row_bytes; x += 32) {
      const int64_t at = x + 32 <= row_bytes ? x : row_bytes - 32;  // the last block overlaps the one before
      vertical_block(filter, i, rows + at, row_bytes, out + at);
    }
  }
}

}  // namespace glimpse
