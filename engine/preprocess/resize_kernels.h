// The two passes of the bicubic resize, one function per ISA. Included by files compiled for AVX2: nothing here may
// be inline. Pixels are RGB bytes; arithmetic is on integers, so every ISA gives the same bytes.
#pragma once

#include <cstdint>

namespace glimpse {

/// Fractional bits of a weight: the sum of a filter's weights is about 1 << kResizeWeightBits.
constexpr int kResizeWeightBits = 22;
/// A weight w is also stored as w = (high << kResizeLowBits) + low, 0 <= low < 1 << kResizeLowBits, so that both
/// parts fit the 16-bit multipliers of SIMD (weights are below 2^23 in size).
constexpr int kResizeLowBits = 12;
/// Bytes past the end of a row that resize_horizontal_avx2 may read.
constexpr int64_t kResizeOverread = 13;

/// The filter of one axis, as the kernels see it. Output i is
/// clamp((2^21 + sum over k < count[i] of weights[i * n_taps + k] * input[first[i] + k]) >> 22, 0, 255).
struct ResizeFilterView {
  int64_t n_outputs;
  int64_t n_taps;          // row length of weights, a multiple of 4; taps from count[i] on are 0
  const int32_t* first;    // (n_outputs)
  const int32_t* count;    // (n_outputs)
  const int32_t* weights;  // (n_outputs, n_taps)
  const int16_t* split;    // (n_outputs, n_taps / 4, 8): for each 4 taps their high parts, then their low parts
};

/// Along rows: in (n_rows, in_stride bytes) to out (n_rows, n_outputs * 3).
void resize_horizontal_ref(const ResizeFilterView& filter, const uint8_t* in, int64_t in_stride, int64_t n_rows,
                           uint8_t* out);
/// in must be readable for kResizeOverread bytes past its last row.
void resize_horizontal_avx2(const ResizeFilterView& filter, const uint8_t* in, int64_t in_stride, int64_t n_rows,
                            uint8_t* out);

/// Across rows: output rows [begin, end) to out (end - begin, row_bytes). in: input rows from in_row on, as many as
/// those outputs need.
void resize_vertical_ref(const ResizeFilterView& filter, const uint8_t* in, int64_t in_row, int64_t row_bytes,
                         int64_t begin, int64_t end, uint8_t* out);
void resize_vertical_avx2(const ResizeFilterView& filter, const uint8_t* in, int64_t in_row, int64_t row_bytes,
                          int64_t begin, int64_t end, uint8_t* out);

}  // namespace glimpse
