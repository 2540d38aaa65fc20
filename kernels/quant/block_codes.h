// The neutral form of one quantised block: its integers, as the format numbers them. Dequantisation, quantisation,
// panels and the reference kernels go through it, so that the bytes of a format are read and written in one place
// (block_codes.cpp, by block_format.h).
#pragma once

#include <bit>
#include <cstdint>

#include "engine/base/block_format.h"
#include "engine/base/half.h"

namespace glimpse {

constexpr int kBlock32 = 32;      // elements of a block of the simple types and IQ4_NL
constexpr int kSuperBlock = 256;  // elements of a block of the other types

/// The integers of one block of one row (unsigned codes, nothing subtracted).
struct BlockCodes {
  uint16_t d = 0;          // f16 bits; MXFP4: the byte
  float own_scale = 0;     // kI8x32 has this instead of d
  uint16_t m = 0;          // f16 bits of dmin or m
  uint8_t scale[16] = {};  // codes of the sub-block scales (Q6_K: the bits of an int8)
  uint8_t min[16] = {};    // codes of the sub-block mins
  uint8_t q[256] = {};     // codes of the weights (8-bit formats: the bits of an int8)
};

/// block: one block of a quantised type, any alignment. Codes beyond the format's own stay as they were.
void decode_block(DType type, const uint8_t* block, BlockCodes& codes);
/// The inverse, for types that are no codebook's.
void encode_block(DType type, const BlockCodes& codes, uint8_t* block);

/// Makes d (and dmin or m) of a block the nearest to `d` (and `m`) that the type has.
void set_block_scales(DType type, float d, float m, uint8_t* block);

/// d as the weights have it.
inline float block_scale(const BlockFormat& format, const BlockCodes& codes) {
  if (format.d_type == ScaleType::kFloat) return codes.own_scale;
  // 2^(e - 128) is half of the float with the exponent e; below 2^-126 the bits of the fraction take over.
  if (format.d_type == ScaleType::kPower) {
    return std::bit_cast<float>(codes.d < 2 ? 0x00200000u << codes.d : (codes.d - 1u) << 23);
  }
  return half_to_float(codes.d) * (1.0f / static_cast<float>(1 << format.d_shift));
}
/// Scale of sub-block s: d times the signed integer scale. Exact in float.
inline float sub_scale(const BlockFormat& format, const BlockCodes& codes, int s) {
  const float d = block_scale(format, codes);
  switch (format.scales) {
    case ScaleKind::kNone:
      return d;
    case ScaleKind::kSix8:
      return d * static_cast<float>(codes.scale[s]);
    case ScaleKind::kBytes16:
      return d *
             static_cast<float>(format.mins == MinKind::kNone ? static_cast<int8_t>(codes.scale[s]) : codes.scale[s]);
    case ScaleKind::kSix16:
    case ScaleKind::kSix8Split:
      return d * static_cast<float>(codes.scale[s] - 32);
    case ScaleKind::kOdd8:
    case ScaleKind::kOdd16:
      return d * static_cast<float>(2 * codes.scale[s] + 1);
  }
  return d;
}
/// The integer that a code stands for, before scale and min: code - offset, or the table's value.
inline int code_value(const BlockFormat& format, uint8_t code) {
  if (format.table) return format.table.value[code];
  if (format.offset == 128) return static_cast<int8_t>(code);
  return code - format.offset;
}
/// The first `count` elements of a block as floats. The order of the float operations is that of gguf-py's quants.py:
/// the scale is multiplied out first, then the element, and nothing is fused, so the results are equal bit by bit.
void dequantize_codes(DType type, const BlockCodes& codes, int count, float* out);

}  // namespace glimpse
