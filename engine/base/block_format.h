// The one description of every type of tensor element: its name and size, and for weights which byte of a block means
// what. Finite checks, dequantisation, quantisation, panels and device planes take offsets and sizes from here.
// Source: ggml-common.h and ggml-quants.c; each rule was checked bit by bit against gguf-py's quants.py.
//
// Read by ISA-specific files and by device code: constants and always-inlined constexpr functions only.
#pragma once

#include <cstdint>

#include "engine/base/dtype.h"

namespace glimpse {

/// Bits of the codes of a block's elements. Elements come in runs; a run is run * bits / 8 bytes, and field j (bits
/// j * bits and up) of byte l of a run holds its element j * (run * bits / 8) + l.
struct BlockPlane {
  int at = 0;    // byte of the block
  int bits = 0;  // per element; 0: there is no such plane
  int run = 0;   // elements
};

/// How the integer scales of the sub-blocks of a block are coded, from scales_at on. S is that place; k the sub-block.
enum class ScaleKind : uint8_t {
  kNone,     // none: d is the scale of the whole block
  kSix8,     // 8 scales sc and mins mn of 6 bits in 12 bytes. k < 4: sc = S[k] & 63, mn = S[k + 4] & 63; otherwise
             // sc = lo4(S[k + 4]) | S[k - 4] >> 6 << 4, mn = hi4(S[k + 4]) | S[k] >> 6 << 4
  kBytes16,  // 16 bytes: int8 scales, or with kPairs scale | min << 4
  kSix16,    // 16 scales of 6 bits, 32 to be subtracted, in 12 bytes: the low bits in nibble k / 8 of S[k % 8], the two
             // high bits in S[8 + k % 4] >> 2 (k / 4)
  kSix8Split,  // 8 scales of 6 bits, 32 to be subtracted: the high bits in bits 2k of the u16 at S, the low bits in
               // nibble k % 2 of S[2 + k / 2]
};
/// Whether weights are scale * q - min: per sub-block, with a common factor (kPairs), or + m per block (kBlock).
enum class MinKind : uint8_t { kNone, kPairs, kBlock };

/// One type. weight = d * scale(sub-block) * value [- m * min(sub-block) | + m], where value is code - offset or, with
/// a table, the table's entry; the code's low bits are in one plane, its high bits, if any, in another.
struct BlockFormat {
  DTypeInfo info;
  int sub = 0;    // elements that share a scale; 0: not a type of quantised weights
  int d_at = -1;  // byte of the binary16 d; float formats: of the element itself
  int m_at = -1;  // of dmin or m; -1: none
  BlockPlane low = {}, high = {};
  int offset = 0;  // 128: codes are signed bytes, stored as such or by table
  ScaleKind scales = ScaleKind::kNone;
  int scales_at = 0;
  MinKind mins = MinKind::kNone;
  bool table = false;    // codes are indices into kIq4Values
  bool float_d = false;  // d is a float: kI8x128

  constexpr bool is_quantised() const { return sub != 0; }
  constexpr int length() const { return static_cast<int>(info.block_length); }
  constexpr int bytes() const { return static_cast<int>(info.block_bytes); }
  constexpr int subs() const { return length() / sub; }
  constexpr int code_bits() const { return low.bits + high.bits; }
};

constexpr BlockFormat kBlockFormats[] = {
    {.info = {DType::kF32, "F32", 1, 4, true}, .d_at = 0},
    {.info = {DType::kF16, "F16", 1, 2, true}, .d_at = 0},
    {.info = {DType::kBF16, "BF16", 1, 2, true}, .d_at = 0},
    // 32 elements, one scale.
    {.info = {DType::kQ4_0, "Q4_0", 32, 18, true}, .sub = 32, .d_at = 0, .low = {2, 4, 32}, .offset = 8},
    {.info = {DType::kQ4_1, "Q4_1", 32, 20, true},
     .sub = 32,
     .d_at = 0,
     .m_at = 2,
     .low = {4, 4, 32},
     .mins = MinKind::kBlock},
    {.info = {DType::kQ5_0, "Q5_0", 32, 22, true},
     .sub = 32,
     .d_at = 0,
     .low = {6, 4, 32},
     .high = {2, 1, 8},
     .offset = 16},
    {.info = {DType::kQ5_1, "Q5_1", 32, 24, true},
     .sub = 32,
     .d_at = 0,
     .m_at = 2,
     .low = {8, 4, 32},
     .high = {4, 1, 8},
     .mins = MinKind::kBlock},
    {.info = {DType::kQ8_0, "Q8_0", 32, 34, true}, .sub = 32, .d_at = 0, .low = {2, 8, 1}, .offset = 128},
    {.info = {DType::kIQ4_NL, "IQ4_NL", 32, 18, true},
     .sub = 32,
     .d_at = 0,
     .low = {2, 4, 32},
     .offset = 128,
     .table = true},
    // 256 elements in groups of 16 or 32 with scales of their own.
    {.info = {DType::kQ2_K, "Q2_K", 256, 84, true},
     .sub = 16,
     .d_at = 80,
     .m_at = 82,
     .low = {16, 2, 128},
     .scales = ScaleKind::kBytes16,
     .scales_at = 0,
     .mins = MinKind::kPairs},
    {.info = {DType::kQ3_K, "Q3_K", 256, 110, true},
     .sub = 16,
     .d_at = 108,
     .low = {32, 2, 128},
     .high = {0, 1, 256},
     .offset = 4,
     .scales = ScaleKind::kSix16,
     .scales_at = 96},
    {.info = {DType::kQ4_K, "Q4_K", 256, 144, true},
     .sub = 32,
     .d_at = 0,
     .m_at = 2,
     .low = {16, 4, 64},
     .scales = ScaleKind::kSix8,
     .scales_at = 4,
     .mins = MinKind::kPairs},
    {.info = {DType::kQ5_K, "Q5_K", 256, 176, true},
     .sub = 32,
     .d_at = 0,
     .m_at = 2,
     .low = {48, 4, 64},
     .high = {16, 1, 256},
     .scales = ScaleKind::kSix8,
     .scales_at = 4,
     .mins = MinKind::kPairs},
    {.info = {DType::kQ6_K, "Q6_K", 256, 210, true},
     .sub = 16,
     .d_at = 208,
     .low = {0, 4, 128},
     .high = {128, 2, 128},
     .offset = 32,
     .scales = ScaleKind::kBytes16,
     .scales_at = 192},
    {.info = {DType::kIQ4_XS, "IQ4_XS", 256, 136, true},
     .sub = 32,
     .d_at = 0,
     .low = {8, 4, 32},
     .offset = 128,
     .scales = ScaleKind::kSix8Split,
     .scales_at = 2,
     .table = true},
    // Types that occur in files and are no weights, or not yet.
    {.info = {DType::kQ8_1, "Q8_1", 32, 36, false}},
    {.info = {DType::kQ8_K, "Q8_K", 256, 292, false}},
    {.info = {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, false}},
    {.info = {DType::kIQ2_XS, "IQ2_XS", 256, 74, false}},
    {.info = {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, false}},
    {.info = {DType::kIQ1_S, "IQ1_S", 256, 50, false}},
    {.info = {DType::kIQ3_S, "IQ3_S", 256, 110, false}},
    {.info = {DType::kIQ2_S, "IQ2_S", 256, 82, false}},
    {.info = {DType::kI8, "I8", 1, 1, false}},
    {.info = {DType::kI16, "I16", 1, 2, false}},
    {.info = {DType::kI32, "I32", 1, 4, false}},
    {.info = {DType::kI64, "I64", 1, 8, false}},
    {.info = {DType::kF64, "F64", 1, 8, false}},
    {.info = {DType::kIQ1_M, "IQ1_M", 256, 56, false}},
    {.info = {DType::kTQ1_0, "TQ1_0", 256, 54, false}},
    {.info = {DType::kTQ2_0, "TQ2_0", 256, 66, false}},
    {.info = {DType::kMXFP4, "MXFP4", 32, 17, false}},
    {.info = {DType::kNVFP4, "NVFP4", 64, 36, false}},
    {.info = {DType::kQ1_0, "Q1_0", 128, 18, false}},
    {.info = {DType::kQ2_0, "Q2_0", 64, 18, false}},
    {.info = {DType::kI8x128, "i8x128", 128, 132, false},
     .sub = 128,
     .d_at = 0,
     .low = {4, 8, 1},
     .offset = 128,
     .float_d = true},
};

/// The description of a known type.
[[gnu::always_inline]] static constexpr BlockFormat block_format(DType type) {
  for (const BlockFormat& format : kBlockFormats) {
    if (format.info.type == type) return format;
  }
  return {};
}

/// The 16 levels of IQ4_NL and IQ4_XS (ggml-common.h, kvalues_iq4nl).
constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace glimpse
