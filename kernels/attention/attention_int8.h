// Attention over one segment of keys in int8: for the vision encoder, where every row sees all keys of a picture and
// these are known before the first score. A head's keys and values are stored in bfloat16, as panels of kBf16, and then
// turned into int8 in place, with numbers that only the whole segment can give:
//
//   keys    every channel is shifted by its mean, to which a softmax is blind, and divided by a factor t that its
//           queries are multiplied by: t levels the magnitudes of a channel's keys and queries. Then int8 with a scale
//           per key.
//   values  int8 per channel and block of 256 keys, between the least and the greatest of them.
//   queries times t log2(e) / sqrt(head_dim), int8 with a scale per row.
//   weights unsigned, 255 for the greatest of the row in the block; what divides them is the sum of the rounded ones.
//
// Layout after the conversion, d = padded_head_dim:
//   keys    t (d) float, mean (d) float, then per block of 256 keys: scales (256) float, and key + 128 as unsigned
//           bytes [16 groups][d / 4][16 keys][4 channels]
//   values  per block of 256 keys: scale (d) float, centre (d) float, int8 [4][16 slots][d][4 keys]; slot i of 64 keys
//           holds keys 4 q to 4 q + 3, q = 4 (i % 4) + i / 4: the order in which packing four vectors leaves weights.
// Block b always ends before block b of the bfloat16 panels does, so that the conversion can go forward in place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace glimpse {

/// The queries that will look at a head's keys: row r of head h of its group, head_dim floats, at
/// rows + r * ld + h * head_dim.
struct SegmentQueries {
  const float* rows = nullptr;
  int64_t ld = 0;
  int64_t n_rows = 0;
  int64_t n_heads = 1;
};

/// What int8 would cost this head. score: root mean square of the scores' error in bits (a weight is 2^score). value:
/// mean square of the values' error relative to the square of their mean distance from the centre of their channel,
/// which a single large value does not raise. finite: no NaN and no infinity among keys and values.
struct Int8Estimate {
  bool finite = false;
  float score = 0;
  float value = 0;
};
/// Errors of 0.05 bits change weights by 3.5 %, independently from key to key: 1.2e-3 of the square of an output that
/// a single key decides, less by the number of keys that matter otherwise. Values of a normal distribution have 6e-5.
constexpr float kMaxInt8ScoreError = 0.05f;
constexpr float kMaxInt8ValueError = 1e-3f;
inline bool fits_int8(const Int8Estimate& estimate) {
  return estimate.finite && estimate.score <= kMaxInt8ScoreError && estimate.value <= kMaxInt8ValueError;
}

/// Scratch of the two functions below, which the scratch of the attention kernels is large enough for; 64-byte aligned.
uint64_t int8_scratch_bytes(int64_t d);
/// Looks at the kBf16 panels of n_keys positions (from 0 on) and at a sample of the queries; leaves in scratch what
/// quantize_segment needs. The same bits whatever the ISA.
Int8Estimate estimate_int8(Isa isa, const SegmentQueries& queries, int64_t head_dim, int64_t n_keys,
                           const std::byte* keys, const std::byte* values, std::byte* scratch);
/// Turns the panels into int8. Preconditions: estimate_int8() of the same panels has just filled the scratch and said
/// finite. The same bits whatever the ISA.
void quantize_segment(Isa isa, int64_t head_dim, int64_t n_keys, std::byte* keys, std::byte* values,
                      std::byte* scratch);

namespace {  // internal linkage: files of every instruction set call these

constexpr int64_t int8_key_header_bytes(int64_t d) {
  return 8 * d;
}
constexpr int64_t int8_key_block_bytes(int64_t d) {
  return kKeyBlock * 4 + kKeyBlock * d;
}
constexpr int64_t int8_value_block_bytes(int64_t d) {
  return 8 * d + kKeyBlock * d;
}
/// Bytes of a row of four keys' values behind their block's start, for the key at `lane` of the block.
constexpr int64_t int8_value_slot(int64_t lane) {
  const int64_t quad = lane % 64 / 4;
  return lane / 64 * 16 + quad % 4 * 4 + quad / 4;
}

/// A prepared query row: d int8, the scale, and -128 times the sum of the int8, where sums of products with key + 128
/// start.
constexpr int64_t int8_query_bytes(int64_t d) {
  return d + 8;
}

/// 2^f on [-0.5, 0.5] for weights of 8 bits: minimax, relative error 7.5e-5.
constexpr float kWeightC0 = 0x1.fff692p-1f;
constexpr float kWeightC1 = 0x1.62f31ap-1f;
constexpr float kWeightC2 = 0x1.f0de1ap-3f;
constexpr float kWeightC3 = 0x1.c3f76p-5f;
constexpr float kLog2Of255 = 0x1.ffa37cp+2f;

}  // namespace

/// As prepare_queries(), for the kernels of int8. keys: the panels of the head that the queries will look at, whose
/// factors they take over. out: n_rows times int8_query_bytes(), at most max_query_row_bytes(). The same bits whatever
/// the ISA.
void prepare_queries_int8(Isa isa, const float* const* q_rows, int64_t n_rows, int64_t head_dim, const std::byte* keys,
                          void* out);
/// Read back as floats: position is that in the segment.
void load_key_int8(const std::byte* keys, int64_t head_dim, int64_t position, float* key);
void load_value_int8(const std::byte* values, int64_t head_dim, int64_t position, float* value);

}  // namespace glimpse
