#include "engine/preprocess/resize_kernels.h"

namespace glimpse {
namespace {

constexpr int32_t kHalf = 1 << (kResizeWeightBits - 1);

uint8_t to_level(int32_t sum) {
  const int32_t level = sum >> kResizeWeightBits;  // arithmetic shift
  return static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
}

}  // namespace

void resize_horizontal_ref(const ResizeFilterView& filter, const uint8_t* in, int64_t in_stride, int64_t n_rows,
                           uint8_t* out) {
  for (int64_t row = 0; row < n_rows; ++row, in += in_stride) {
    for (int64_t i = 0; i < filter.n_outputs; ++i, out += 3) {
      const uint8_t* pixel = in + filter.first[i] * int64_t{3};
      const int32_t* weight = filter.weights + i * filter.n_taps;
      int32_t red = kHalf, green = kHalf, blue = kHalf;
      for (int32_t k = 0; k < filter.count[i]; ++k, pixel += 3) {
        red += weight[k] * pixel[0];
        green += weight[k] * pixel[1];
        blue += weight[k] * pixel[2];
      }
      out[0] = to_level(red);
      out[1] = to_level(green);
      out[2] = to_level(blue);
    }
  }
}

void resize_vertical_ref(const ResizeFilterView& filter, const uint8_t* in, int64_t in_row, int64_t row_bytes,
                         int64_t begin, int64_t end, uint8_t* out) {
  for (int64_t i = begin; i < end; ++i, out += row_bytes) {
    const uint8_t* column = in + (filter.first[i] - in_row) * row_bytes;
    const int32_t* weight = filter.weights + i * filter.n_taps;
    for (int64_t x = 0; x < row_bytes; ++x) {
      int32_t sum = kHalf;
      for (int32_t k = 0; k < filter.count[i]; ++k) sum += weight[k] * column[k * row_bytes + x];
      out[x] = to_level(sum);
    }
  }
}

}  // namespace glimpse
