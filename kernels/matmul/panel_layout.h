// Where every field of a weight lies inside a panel. Read by the packing code and by every kernel.
//
// A panel is 16 output rows. It is a sequence of panel blocks; panel block b holds block b of each of the 16 rows, in
// exactly 16 times the bytes of one GGUF block. "Vector" below is 64 bytes = 16 lanes of 32 bits; lane r belongs to
// row r, so nothing ever crosses lanes. AVX2 reads lanes 0-7 and 8-15 as two halves. "Group" G is the 4 consecutive
// columns 4G..4G+3 of a block: one byte each of a lane.
//
// Codes (the unsigned integers of the format) are stored in planes:
//   8 bits   vector G:  byte i of lane r = code of row r, column 4G+i (Q8_0: the int8 itself; kI8x32: the int8 + 128)
//   4 bits   vector j:  low nibble = group 2j, high nibble = group 2j+1
//   2 bits   vector j:  bits 2t, 2t+1 = group 4j+t
//   1 bit    vector j:  bit t = group 8j+t
// A format of 3, 5 or 6 bits has a low plane and a high plane; code = low | high << low_bits. Each vector of the high
// plane is followed by the vectors of the low plane that it completes, so that a kernel reads one stream: with the
// planes one behind the other the hardware prefetchers lose their way (Q6_K from memory on Zen 4: 19 GB/s of 35).
//
// Codes of codebooks (IQ1, IQ2, IQ3) are stored one by one, not as indices of entries: 2 bits of level and a sign, 3
// bits of level and a sign (4 together), or 2 bits of level whose high bit 8 or 32 elements share. That is more than in
// the file (1.2 to 1.6 times), and read at the memory's speed, which gathers from a codebook are not.
//
// Scales of one value per block (d, and dmin or m): 16 f16, row r at index r; kI8x32: 16 floats; MXFP4: 16 bytes.
// Scales of sub-blocks s, per row (all are lanes of 32 bits; `quad_position` says which byte of a lane):
//   kNone    none.
//   kSix8    Q4_K, Q5_K: 8 scales and 8 mins of 6 bits in three vectors A, B, H. With p = quad_position(j), j = 0..3:
//            A byte p = sc[j] & 15 | (sc[j+4] & 15) << 4        B byte p = the same of the mins
//            H byte p = sc[j] >> 4 | (sc[j+4] >> 4) << 2 | (mn[j] >> 4) << 4 | (mn[j+4] >> 4) << 6
//   kOdd8    a vector: bits 4s of lane r = scale s. kOdd16: two vectors, for s and s - 8.
//   kBytes16 Q6_K (int8) and Q2_K (scale | min << 4): vector t, byte quad_position(j) = sub-block 4t+j.
//   kSix16   Q3_K: 16 codes of 6 bits. Vector u = 0, 1: byte p = sc[8u+j] & 15 | (sc[8u+4+j] & 15) << 4;
//            vector 2: byte p = bits 2t: sc[4t+j] >> 4.
//   kSix8Split IQ4_XS. Vector: bits 4s of lane r = low nibble of scale s; then 16 u16: bits 2s = its two high bits.
// Shared high bits: IQ1_S 16 bytes, IQ1_M a vector: bit i of row r belongs to its elements shared * i and up.
// The byte order 0, 2, 1, 3 of quads makes (lane & 0x00ff00ff) the int16 pair (0, 1) and (lane >> 8 & 0x00ff00ff)
// the pair (2, 3): what vpdpwssd and vpmaddwd want for the min terms.
//
// Floats: F32 [column][16 rows] f32; F16 [column][16 rows] f16; BF16 [column / 2][16 rows][2] (pairs, for vdpbf16ps;
// an odd last column is paired with zero).
//
// This header is read by ISA-specific files: constants and always-inlined constexpr functions only.
#pragma once

#include <cstdint>

#include "engine/base/block_format.h"
#include "kernels/matmul/panel.h"

namespace glimpse {

/// Names everything drawn above. Side files of packed weights carry it; a file of another version is not used. Whoever
/// changes a byte of any packed panel raises it (tests/kernels/panel_version_test.cpp pins it to the bytes).
constexpr uint32_t kPanelLayoutVersion = 2;

/// Layout of one panel block of an integer format. Offsets are bytes from the start of the panel block.
struct PanelLayout {
  int block = 0;      // columns of a block
  int sub = 0;        // columns of a sub-block: those that share one scale
  int low_bits = 0;   // of the low plane
  int high_bits = 0;  // of the high plane, or 0
  int offset = 0;     // weight = scale * (code - offset); 128: the code is a signed byte (stored as such, or by table)
  CodeTable table = {};  // where used, the code is an index into it
  ScaleKind scales = ScaleKind::kNone;
  MinKind mins = MinKind::kNone;
  bool own = false;  // kI8x32: 8-bit codes are stored with their offset
  ScaleType d_type = ScaleType::kHalf;
  int d_shift = 0;  // d is to be multiplied by 2^-d_shift
  int shared = 0;   // elements that share the bit above the low plane, or 0
  int d_at = 0;
  int m_at = 0;  // dmin or m; unused without mins
  int scales_at = 0;
  int shared_at = 0;
  int codes_at = 0;
  int bytes = 0;

  [[gnu::always_inline]] constexpr int subs() const { return block / sub; }
  /// Vectors of the low plane that one vector of the high plane completes.
  [[gnu::always_inline]] constexpr int lows_per_high() const { return high_bits == 0 ? 0 : low_bits / high_bits; }
  /// Where vector j of the low plane starts, and vector i of the high plane.
  [[gnu::always_inline]] constexpr int low_at(int j) const {
    return codes_at + 64 * (high_bits == 0 ? j : j + j / lows_per_high() + 1);
  }
  [[gnu::always_inline]] constexpr int high_at(int i) const { return codes_at + 64 * i * (lows_per_high() + 1); }
  [[gnu::always_inline]] constexpr bool is_signed() const { return mins == MinKind::kNone; }
};

/// Activation scales that fall into one block: one per 128 columns at most.
[[gnu::always_inline]] constexpr int act_parts(const PanelLayout& layout) {
  return layout.block > 128 ? 2 : 1;
}

/// Byte of a lane that holds element j (0..3) of a quad; its own inverse.
[[gnu::always_inline]] constexpr int quad_position(int j) {
  return j == 1 ? 2 : j == 2 ? 1 : j;
}

/// True for formats of integer codes with scales; false for F32, F16, BF16.
[[gnu::always_inline]] constexpr bool is_integer_format(PanelFormat format) {
  return !is_float_type(format);
}

/// Bytes of a row's sub-block scales in a panel.
[[gnu::always_inline]] constexpr int panel_scale_bytes(ScaleKind kind) {
  switch (kind) {
    case ScaleKind::kNone:
      return 0;
    case ScaleKind::kOdd8:
      return 4;
    case ScaleKind::kOdd16:
      return 8;
    case ScaleKind::kSix8:
    case ScaleKind::kSix16:
      return 12;
    case ScaleKind::kBytes16:
      return 16;
    case ScaleKind::kSix8Split:
      return 6;
  }
  return 0;
}

/// Layout of an integer format, d, m, scales and codes one behind the other; for the float formats an empty one.
[[gnu::always_inline]] static constexpr PanelLayout panel_layout(PanelFormat format) {
  const BlockFormat f = block_format(format);
  if (!f.is_quantised()) return {};
  const int high_bits = f.shared != 0 ? 0 : f.high.bits;
  const int m_at = 16 * (f.d_type == ScaleType::kFloat ? 4 : f.d_type == ScaleType::kPower ? 1 : 2);
  const int scales_at = m_at + (f.mins == MinKind::kNone ? 0 : 32);
  const int shared_at = scales_at + 16 * panel_scale_bytes(f.scales);
  const int codes_at = shared_at + (f.shared == 0 ? 0 : 2 * f.length() / f.shared);
  return {.block = f.length(),
          .sub = f.sub,
          .low_bits = f.low.bits,
          .high_bits = high_bits,
          .offset = f.offset,
          .table = f.table,
          .scales = f.scales,
          .mins = f.mins,
          .own = f.is_own(),
          .d_type = f.d_type,
          .d_shift = f.d_shift,
          .shared = f.shared,
          .m_at = m_at,
          .scales_at = scales_at,
          .shared_at = shared_at,
          .codes_at = codes_at,
          .bytes = codes_at + 2 * f.length() * (f.low.bits + high_bits)};
}

}  // namespace glimpse
