// The int8 key/value store (KvElement::kQ8_0): int8 with one binary16 scale per position and 32 dimensions. Keys and
// values come in groups of 16 positions, each the scales first:
//   keys   scales [blocks][16 positions]   wide [n_wide][16 positions]   values [d / 4][16 positions][4 dimensions]
//   values scales [blocks][16 positions]   values [blocks][8 pairs of positions][w dimensions][2 positions]
// d = padded_head_dim; blocks of w = 32 dimensions, the last of 16 where d is an odd multiple of 16. The scales take an
// even number of blocks, so that everything starts at a 64-byte boundary. At 128 dimensions a value takes 8.5 bits.
//
// A few large channels would set the scale of all. Keys have them: published models add biases of up to 350 to single
// channels, and after the rotation both channels of a pair carry them. So
//   - wide channels, which the caller chooses (wide_key_channels()), are kept in binary16 and count as zero below;
//   - the others are mixed by a Hadamard matrix, to which a product of query and key is blind: all 2^n channels of a
//     part of the head (mixed_channels()) become sums and differences of all, and none stands out.
// Queries are mixed alike and rounded to 15 bits: their rounding would cost as much as that of the keys otherwise.
//
// The scores are integer products of queries, as two int8 each, and keys, the output integer products of 16-bit weights
// and values: four (two) dimensions (positions) lie side by side, as such instructions take them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace glimpse {

constexpr int64_t kQ8Block = 32;

namespace {  // internal linkage: files of every instruction set call these

constexpr int64_t q8_blocks(int64_t d) {
  return (d + kQ8Block - 1) / kQ8Block;
}
/// Bytes of a group's scales, which its wide channels and then its values follow.
constexpr int64_t q8_scale_bytes(int64_t d) {
  return (q8_blocks(d) + 1) / 2 * 64;
}
/// n_wide: even; of keys only.
constexpr int64_t q8_group_bytes(int64_t d, int64_t n_wide = 0) {
  return q8_scale_bytes(d) + 32 * n_wide + 16 * d;
}

/// Channels that are mixed together: the greatest power of two that divides d.
constexpr int64_t mixed_channels(int64_t d) {
  return d & -d;
}

/// A prepared query row. The mixed channels are scale * (128 high + low): high (d) int8, low (d) int8, a float scale
/// per block of 32, then per block -128 times the sums of its high and of its low, where sums of products with
/// key + 128 start: (2) int32. Then n_wide, int32, and the wide channels, float.
constexpr int64_t q8_query_bytes(int64_t d, int64_t n_wide) {
  return 2 * d + 12 * q8_blocks(d) + 4 + 4 * n_wide;
}
struct Q8Query {
  const int8_t* high;
  const int8_t* low;
  const float* scales;
  const int32_t* starts;
  const int32_t* n_wide;
  const float* wide;
};
inline Q8Query q8_query(const std::byte* row, int64_t d) {
  const std::byte* const after = row + 2 * d + 12 * q8_blocks(d);
  return {reinterpret_cast<const int8_t*>(row),        reinterpret_cast<const int8_t*>(row + d),
          reinterpret_cast<const float*>(row + 2 * d), reinterpret_cast<const int32_t*>(row + 2 * d + 4 * q8_blocks(d)),
          reinterpret_cast<const int32_t*>(after),     reinterpret_cast<const float*>(after + 4)};
}

}  // namespace

void store_key_q8(const float* key, int64_t head_dim, int64_t position, WideChannels wide, std::byte* keys);
void store_value_q8(const float* value, int64_t head_dim, int64_t position, std::byte* values);
void load_key_q8(const std::byte* keys, int64_t head_dim, int64_t position, WideChannels wide, float* key);
void load_value_q8(const std::byte* values, int64_t head_dim, int64_t position, float* value);
/// What the panels hold, out: (d + n_wide) floats: the mixed channels, scale times int8, which a float holds exactly,
/// then the wide ones.
void load_mixed_key_q8(const std::byte* keys, int64_t d, int64_t position, int64_t n_wide, float* out);
void prepare_query_q8(const float* q, float scale, int64_t head_dim, WideChannels wide, std::byte* out);
/// x (d) := the products with a Hadamard matrix, mixed_channels(d) at a time, times a power of two that leaves the
/// magnitudes about as they are. Twice: x times mixing_gain(d).
void mix_channels(float* x, int64_t d);
float mixing_gain(int64_t d);

}  // namespace glimpse
