// The int8 key/value store: quantisation, storage, queries. One piece of code for every instruction set.
#include "kernels/attention/attention_q8.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/base/half.h"

namespace glimpse {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The greatest magnitude of n floats; NaN if one of them is no finite number. As integers, so that the compiler can
// take the maximum in vectors.
float finite_max(const float* x, int64_t n) {
  int32_t max = 0;
  for (int64_t i = 0; i < n; ++i) max = std::max(max, std::bit_cast<int32_t>(x[i]) & 0x7fffffff);
  return max < 0x7f800000 ? std::bit_cast<float>(max) : kNan;
}

// q = x * inverse to nearest even, in [-127, 127]. Adding 1.5 * 2^23 leaves the integer in the lowest bits.
void quantize(const float* x, float inverse, int64_t n, int8_t* q) {
  for (int64_t i = 0; i < n; ++i) {
    const float y = std::min(std::max(x[i] * inverse, -127.0f), 127.0f);
    q[i] = static_cast<int8_t>(std::bit_cast<int32_t>(y + 12582912.0f) - 0x4b400000);
  }
}

// One block of a key or value: the scale as binary16, n int8. The scale is rounded up, so that the greatest magnitude
// fits, but stays finite for finite numbers.
uint16_t quantize_block(const float* x, int64_t n, int8_t* q) {
  const float max = finite_max(x, n);
  if (std::isnan(max)) {
    std::fill_n(q, n, int8_t{0});
    return float_to_half(kNan);
  }
  const float exact = max / 127.0f;
  uint16_t scale = float_to_half(std::min(exact, 65504.0f));
  if (half_to_float(scale) < exact && scale < 0x7bff) ++scale;
  quantize(x, scale == 0 ? 0.0f : 1.0f / half_to_float(scale), n, q);
  return scale;
}

// A head's row cut into blocks, padded with zero to d.
struct Row {
  float x[kQ8Block];
  int64_t width;  // of the block at hand
  Row(const float* row, int64_t head_dim, int64_t d, int64_t block, float scale) {
    const int64_t begin = block * kQ8Block;
    width = std::min(kQ8Block, d - begin);
    for (int64_t i = 0; i < width; ++i) x[i] = begin + i < head_dim ? row[begin + i] * scale : 0.0f;
  }
};

// Where the scale and the int8 of a position lie: offsets from the panels' start.
int64_t scale_offset(int64_t d, int64_t position, int64_t block) {
  return position / 16 * q8_group_bytes(d) + (block * 16 + position % 16) * 2;
}
int64_t key_offset(int64_t d, int64_t position, int64_t dim) {
  return position / 16 * q8_group_bytes(d) + q8_scale_bytes(d) + (dim / 4 * 16 + position % 16) * 4 + dim % 4;
}
int64_t value_offset(int64_t d, int64_t position, int64_t dim) {
  const int64_t begin = dim / kQ8Block * kQ8Block, width = std::min(kQ8Block, d - begin), lane = position % 16;
  return position / 16 * q8_group_bytes(d) + q8_scale_bytes(d) + begin * 16 + (lane / 2 * width + dim - begin) * 2 +
         lane % 2;
}

// Quantises one block of a row, stores its scale and returns its width.
int64_t store_scale(const float* row, int64_t head_dim, int64_t d, int64_t block, int64_t position, std::byte* panels,
                    int8_t* q) {
  const Row cut(row, head_dim, d, block, 1.0f);
  const uint16_t scale = quantize_block(cut.x, cut.width, q);
  std::memcpy(panels + scale_offset(d, position, block), &scale, 2);
  return cut.width;
}

template <typename Offset>
void load_row(const std::byte* panels, int64_t head_dim, int64_t position, float* row, const Offset& offset) {
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t i = 0; i < head_dim; ++i) {
    uint16_t scale;
    std::memcpy(&scale, panels + scale_offset(d, position, i / kQ8Block), 2);
    row[i] = half_to_float(scale) * static_cast<float>(static_cast<int8_t>(panels[offset(d, position, i)]));
  }
}

}  // namespace

void store_key_q8(const float* key, int64_t head_dim, int64_t position, std::byte* keys) {
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t block = 0; block < q8_blocks(d); ++block) {
    int8_t q[kQ8Block];
    const int64_t width = store_scale(key, head_dim, d, block, position, keys, q);
    std::byte* out = keys + key_offset(d, position, block * kQ8Block);
    for (int64_t i = 0; i < width; i += 4) std::memcpy(out + i * 16, q + i, 4);
  }
}
void store_value_q8(const float* value, int64_t head_dim, int64_t position, std::byte* values) {
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t block = 0; block < q8_blocks(d); ++block) {
    int8_t q[kQ8Block];
    const int64_t width = store_scale(value, head_dim, d, block, position, values, q);
    std::byte* out = values + value_offset(d, position, block * kQ8Block);
    for (int64_t i = 0; i < width; ++i) out[2 * i] = static_cast<std::byte>(q[i]);
  }
}
void load_key_q8(const std::byte* keys, int64_t head_dim, int64_t position, float* key) {
  load_row(keys, head_dim, position, key, key_offset);
}
void load_value_q8(const std::byte* values, int64_t head_dim, int64_t position, float* value) {
  load_row(values, head_dim, position, value, value_offset);
}

void prepare_queries_q8(KvElement, const float* q, float scale, int64_t head_dim, int64_t d, void* out) {
  auto* values = static_cast<int8_t*>(out);
  auto* scales = reinterpret_cast<float*>(values + d);
  auto* starts = reinterpret_cast<int32_t*>(scales + q8_blocks(d));
  for (int64_t block = 0; block < q8_blocks(d); ++block) {
    const Row cut(q, head_dim, d, block, scale);
    int8_t* row = values + block * kQ8Block;
    const float max = finite_max(cut.x, cut.width);
    const bool empty = !(max >= 0x1p-100f);  // nothing, so little that the inverse might overflow, or NaN
    if (empty) {
      std::fill_n(row, cut.width, int8_t{0});
    } else {
      quantize(cut.x, 127.0f / max, cut.width, row);
    }
    scales[block] = std::isnan(max) ? kNan : empty ? 0.0f : max / 127.0f;
    starts[block] = 0;
    for (int64_t i = 0; i < cut.width; ++i) starts[block] -= 128 * row[i];
  }
}

}  // namespace glimpse
