// The int8 key/value store (KvElement::kQ8_0): int8 with one binary16 scale per position and 32 dimensions. Keys and
// values come in groups of 16 positions, each the scales first:
//   keys   scales [blocks][16 positions]   values [d / 4][16 positions][4 dimensions]
//   values scales [blocks][16 positions]   values [blocks][8 pairs of positions][w dimensions][2 positions]
// d = padded_head_dim; blocks of w = 32 dimensions, the last of 16 where d is an odd multiple of 16. The scales take an
// even number of blocks, so that everything starts at a 64-byte boundary. At 128 dimensions a value takes 8.5 bits.
//
// The scores are integer products of int8 queries and keys, the output integer products of 16-bit weights and values:
// four (two) dimensions (positions) lie side by side, as such instructions take them.
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
/// Bytes of a group's scales, which its values follow.
constexpr int64_t q8_scale_bytes(int64_t d) {
  return (q8_blocks(d) + 1) / 2 * 64;
}
constexpr int64_t q8_group_bytes(int64_t d) {
  return q8_scale_bytes(d) + 16 * d;
}

/// A prepared query row: d int8, then a float scale per block of 32, then an int32 per block: -128 times the
/// sum of its int8, where sums of products with key + 128 start.
constexpr int64_t q8_query_bytes(int64_t d) {
  return d + 8 * q8_blocks(d);
}
struct Q8Query {
  const int8_t* values;
  const float* scales;
  const int32_t* starts;
};
inline Q8Query q8_query(const std::byte* row, int64_t d) {
  return {reinterpret_cast<const int8_t*>(row), reinterpret_cast<const float*>(row + d),
          reinterpret_cast<const int32_t*>(row + d + 4 * q8_blocks(d))};
}

}  // namespace

void store_key_q8(const float* key, int64_t head_dim, int64_t position, std::byte* keys);
void store_value_q8(const float* value, int64_t head_dim, int64_t position, std::byte* values);
/// Scale times int8, which a float holds exactly.
void load_key_q8(const std::byte* keys, int64_t head_dim, int64_t position, float* key);
void load_value_q8(const std::byte* values, int64_t head_dim, int64_t position, float* value);
void prepare_queries_q8(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out);

}  // namespace glimpse
