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
  kOdd8,     // 8 scales 2 c + 1 with c of 4 bits
  kOdd16,    // 16 of them
  kSix8Split,  // 8 scales of 6 bits, 32 to be subtracted: the high bits in bits 2k of the u16 at S, the low bits in
               // nibble k % 2 of S[2 + k / 2]
};
/// Whether weights are scale * q - min: per sub-block, with a common factor (kPairs), or + m per block (kBlock).
enum class MinKind : uint8_t { kNone, kPairs, kBlock };

/// How d is stored.
enum class ScaleType : uint8_t {
  kHalf,     // binary16 at d_at
  kFloat,    // binary32 at d_at
  kPower,    // a byte e at d_at: 2^(e - 128), as ggml halves the e8m0 of MXFP4
  kNibbles,  // binary16, a nibble in the upper bits of each of the four u16 from d_at on, the lowest first
};

/// The integers that 16 codes stand for.
struct CodeTable {
  int8_t value[16] = {};
  bool used = false;
  constexpr explicit operator bool() const { return used; }
};
/// ggml-common.h, kvalues_iq4nl.
constexpr CodeTable kIq4Table = {{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}, true};
/// Twice the values of E2M1, sign in the top bit (OCP Microscaling Formats 1.0).
constexpr CodeTable kMxfp4Table = {{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}, true};
/// Magnitude in the low bits, sign above.
constexpr CodeTable kIq2Table = {{8, 25, 43, 0, -8, -25, -43, 0}, true};
constexpr CodeTable kIq3XxsTable = {{4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62}, true};
constexpr CodeTable kIq3STable = {{1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15}, true};
/// Eight times -1, 0, 1 plus an eighth, or minus it.
constexpr CodeTable kIq1Table = {{-7, 1, 9, 0, -9, -1, 7, 0}, true};

/// One type. weight = d * scale(sub-block) * value [- m * min(sub-block) | + m], where value is code - offset or, with
/// a table, the table's entry; the code's low bits are in one plane, its high bits, if any, in another.
struct BlockFormat {
  DTypeInfo info;
  int sub = 0;  // elements that share a scale; 0: not a type of quantised weights
  ScaleType d_type = ScaleType::kHalf;
  int d_at = -1;    // byte of d; float formats: of the element itself
  int d_shift = 0;  // d is to be multiplied by 2^-d_shift
  int m_at = -1;    // of dmin or m; -1: none
  BlockPlane low = {}, high = {};
  int offset = 0;  // 128: codes are signed bytes, stored as such or by table
  ScaleKind scales = ScaleKind::kNone;
  int scales_at = 0;
  MinKind mins = MinKind::kNone;
  CodeTable table = {};
  bool codebook = false;  // codes and scales are no planes: kernels/quant/codebook_blocks.cpp knows them
  int shared = 0;         // the high bit is the same for so many elements; 0: each has its own

  constexpr bool is_own() const { return info.type == DType::kI8x32; }
  constexpr bool is_quantised() const { return sub != 0; }
  constexpr int length() const { return static_cast<int>(info.block_length); }
  constexpr int bytes() const { return static_cast<int>(info.block_bytes); }
  constexpr int subs() const { return length() / sub; }
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
     .table = kIq4Table},
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
     .table = kIq4Table},
    // Ternary.
    {.info = {DType::kTQ1_0, "TQ1_0", 256, 54, true},
     .sub = 32,
     .d_at = 52,
     .low = {0, 2, 0},
     .offset = 1,
     .codebook = true},
    {.info = {DType::kTQ2_0, "TQ2_0", 256, 66, true}, .sub = 32, .d_at = 64, .low = {0, 2, 128}, .offset = 1},
    {.info = {DType::kMXFP4, "MXFP4", 32, 17, true},
     .sub = 32,
     .d_type = ScaleType::kPower,
     .d_at = 0,
     .low = {1, 4, 32},
     .offset = 128,
     .table = kMxfp4Table},
    // Groups of 4 or 8 elements are entries of a codebook; signs apart.
    {.info = {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, true},
     .sub = 32,
     .d_at = 0,
     .d_shift = 3,
     .low = {0, 2, 0},
     .high = {0, 1, 0},
     .offset = 128,
     .scales = ScaleKind::kOdd8,
     .table = kIq2Table,
     .codebook = true},
    {.info = {DType::kIQ2_XS, "IQ2_XS", 256, 74, true},
     .sub = 16,
     .d_at = 0,
     .d_shift = 3,
     .low = {0, 2, 0},
     .high = {0, 1, 0},
     .offset = 128,
     .scales = ScaleKind::kOdd16,
     .table = kIq2Table,
     .codebook = true},
    {.info = {DType::kIQ2_S, "IQ2_S", 256, 82, true},
     .sub = 16,
     .d_at = 0,
     .d_shift = 3,
     .low = {0, 2, 0},
     .high = {0, 1, 0},
     .offset = 128,
     .scales = ScaleKind::kOdd16,
     .table = kIq2Table,
     .codebook = true},
    {.info = {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, true},
     .sub = 32,
     .d_at = 0,
     .d_shift = 2,
     .low = {0, 4, 0},
     .offset = 128,
     .scales = ScaleKind::kOdd8,
     .table = kIq3XxsTable,
     .codebook = true},
    {.info = {DType::kIQ3_S, "IQ3_S", 256, 110, true},
     .sub = 32,
     .d_at = 0,
     .low = {0, 4, 0},
     .offset = 128,
     .scales = ScaleKind::kOdd8,
     .table = kIq3STable,
     .codebook = true},
    {.info = {DType::kIQ1_S, "IQ1_S", 256, 50, true},
     .sub = 32,
     .d_at = 0,
     .d_shift = 3,
     .low = {0, 2, 0},
     .high = {0, 1, 0},
     .offset = 128,
     .scales = ScaleKind::kOdd8,
     .table = kIq1Table,
     .codebook = true,
     .shared = 32},
    {.info = {DType::kIQ1_M, "IQ1_M", 256, 56, true},
     .sub = 16,
     .d_type = ScaleType::kNibbles,
     .d_at = 48,
     .d_shift = 3,
     .low = {0, 2, 0},
     .high = {0, 1, 0},
     .offset = 128,
     .scales = ScaleKind::kOdd16,
     .table = kIq1Table,
     .codebook = true,
     .shared = 8},
    // Types that occur in files and are no weights, or not yet.
    {.info = {DType::kQ8_1, "Q8_1", 32, 36, false}},
    {.info = {DType::kQ8_K, "Q8_K", 256, 292, false}},
    {.info = {DType::kI8, "I8", 1, 1, false}},
    {.info = {DType::kI16, "I16", 1, 2, false}},
    {.info = {DType::kI32, "I32", 1, 4, false}},
    {.info = {DType::kI64, "I64", 1, 8, false}},
    {.info = {DType::kF64, "F64", 1, 8, false}},
    {.info = {DType::kNVFP4, "NVFP4", 64, 36, false}},
    {.info = {DType::kQ1_0, "Q1_0", 128, 18, false}},
    {.info = {DType::kQ2_0, "Q2_0", 64, 18, false}},
    {.info = {DType::kI8x32, "i8x32", 32, 36, false},
     .sub = 32,
     .d_type = ScaleType::kFloat,
     .d_at = 0,
     .low = {4, 8, 1},
     .offset = 128},
};

/// The description of a known type.
[[gnu::always_inline]] static constexpr BlockFormat block_format(DType type) {
  for (const BlockFormat& format : kBlockFormats) {
    if (format.info.type == type) return format;
  }
  return {};
}

}  // namespace glimpse
