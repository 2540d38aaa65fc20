// Where every field of a weight lies inside a panel. Read by the packing code and by every kernel.
//
// A panel is 16 output rows. It is a sequence of panel blocks; panel block b holds block b of each of the 16 rows, in
// exactly 16 times the bytes of one GGUF block. "Vector" below is 64 bytes = 16 lanes of 32 bits; lane r belongs to
// row r, so nothing ever crosses lanes. AVX2 reads lanes 0-7 and 8-15 as two halves. "Group" G is the 4 consecutive
// columns 4G..4G+3 of a block: one byte each of a lane.
//
// Codes (the unsigned integers of the format) are stored in planes:
//   8 bits   vector G:  byte i of lane r = code of row r, column 4G+i (Q8_0: the int8 itself; kI8x128: the int8 + 128)
//   4 bits   vector j:  low nibble = group 2j, high nibble = group 2j+1
//   2 bits   vector j:  bits 2t, 2t+1 = group 4j+t
//   1 bit    vector j:  bit t = group 8j+t
// A format of 3, 5 or 6 bits has a low plane and a high plane; code = low | high << low_bits. Each vector of the high
// plane is followed by the vectors of the low plane that it completes, so that a kernel reads one stream: with the
// planes one behind the other the hardware prefetchers lose their way (Q6_K from memory on Zen 4: 19 GB/s of 35).
//
// Scales of one value per block (d, and dmin or m): 16 f16, row r at index r; kI8x128: 16 floats.
// Scales of sub-blocks s, per row (all are lanes of 32 bits; `quad_position` says which byte of a lane):
//   kNone    none.
//   kSix8    Q4_K, Q5_K: 8 scales and 8 mins of 6 bits in three vectors A, B, H. With p = quad_position(j), j = 0..3:
//            A byte p = sc[j] & 15 | (sc[j+4] & 15) << 4        B byte p = the same of the mins
//            H byte p = sc[j] >> 4 | (sc[j+4] >> 4) << 2 | (mn[j] >> 4) << 4 | (mn[j+4] >> 4) << 6
//   kBytes16 Q6_K (int8) and Q2_K (scale | min << 4): vector t, byte quad_position(j) = sub-block 4t+j.
//   kSix16   Q3_K: 16 codes of 6 bits. Vector u = 0, 1: byte p = sc[8u+j] & 15 | (sc[8u+4+j] & 15) << 4;
//            vector 2: byte p = bits 2t: sc[4t+j] >> 4.
//   kIq4Xs   vector: bits 4s of lane r = low nibble of scale s; then 16 u16: bits 2s = its two high bits.
// The byte order 0, 2, 1, 3 of quads makes (lane & 0x00ff00ff) the int16 pair (0, 1) and (lane >> 8 & 0x00ff00ff)
// the pair (2, 3): what vpdpwssd and vpmaddwd want for the min terms.
//
// Floats: F32 [column][16 rows] f32; F16 [column][16 rows] f16; BF16 [column / 2][16 rows][2] (pairs, for vdpbf16ps;
// an odd last column is paired with zero).
//
// This header is read by ISA-specific files: constants and always-inlined constexpr functions only.
#pragma once

#include <cstdint>

#include "kernels/matmul/panel.h"

namespace glimpse {

/// Names everything drawn above. Side files of packed weights carry it; a file of another version is not used. Whoever
/// changes a byte of any packed panel raises it (tests/kernels/panel_version_test.cpp pins it to the bytes).
constexpr uint32_t kPanelLayoutVersion = 1;

enum class ScaleKind { kNone, kSix8, kBytes16, kSix16, kIq4Xs };
/// Whether weights are q * scale - min: per sub-block with a common dmin (kPairs), or + m per block (kBlock).
enum class MinKind { kNone, kPairs, kBlock };

/// Layout of one panel block of an integer format. Offsets are bytes from the start of the panel block.
struct PanelLayout {
  int block = 0;       // columns of a block
  int sub = 0;         // columns of a sub-block: those that share one scale
  int low_bits = 0;    // of the low plane
  int high_bits = 0;   // of the high plane, or 0
  int offset = 0;      // weight = scale * (code - offset); 128: the code is a signed byte (stored as such, or by table)
  bool table = false;  // code is an index into kIq4Values
  ScaleKind scales = ScaleKind::kNone;
  MinKind mins = MinKind::kNone;
  int d_at = 0;
  int m_at = 0;  // dmin or m; unused without mins
  int scales_at = 0;
  int codes_at = 0;
  int bytes = 0;     // 16 GGUF blocks
  bool own = false;  // kI8x128: d is float, 8-bit codes are stored with their offset

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

/// The 16 values of IQ4_NL and IQ4_XS (llama.cpp ggml-common.h, kvalues_iq4nl).
constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// Byte of a lane that holds element j (0..3) of a quad; its own inverse.
[[gnu::always_inline]] constexpr int quad_position(int j) {
  return j == 1 ? 2 : j == 2 ? 1 : j;
}

/// True for formats of integer codes with scales; false for F32, F16, BF16.
[[gnu::always_inline]] constexpr bool is_integer_format(PanelFormat format) {
  return format != PanelFormat::kF32 && format != PanelFormat::kF16 && format != PanelFormat::kBF16;
}

/// Layout of an integer format; for the float formats an empty one.
[[gnu::always_inline]] constexpr PanelLayout panel_layout(PanelFormat format) {
  using S = ScaleKind;
  using M = MinKind;
  //                          block sub low high off table  scales      mins        d   m scales codes bytes
  switch (format) {
    case PanelFormat::kQ4_0:
      return {32, 32, 4, 0, 8, false, S::kNone, M::kNone, 0, 0, 0, 32, 288};
    case PanelFormat::kQ4_1:
      return {32, 32, 4, 0, 0, false, S::kNone, M::kBlock, 0, 32, 0, 64, 320};
    case PanelFormat::kQ5_0:
      return {32, 32, 4, 1, 16, false, S::kNone, M::kNone, 0, 0, 0, 32, 352};
    case PanelFormat::kQ5_1:
      return {32, 32, 4, 1, 0, false, S::kNone, M::kBlock, 0, 32, 0, 64, 384};
    case PanelFormat::kQ8_0:
      return {32, 32, 8, 0, 128, false, S::kNone, M::kNone, 0, 0, 0, 32, 544};
    case PanelFormat::kQ2_K:
      return {256, 16, 2, 0, 0, false, S::kBytes16, M::kPairs, 0, 32, 64, 320, 1344};
    case PanelFormat::kQ3_K:
      return {256, 16, 2, 1, 4, false, S::kSix16, M::kNone, 0, 0, 32, 224, 1760};
    case PanelFormat::kQ4_K:
      return {256, 32, 4, 0, 0, false, S::kSix8, M::kPairs, 0, 32, 64, 256, 2304};
    case PanelFormat::kQ5_K:
      return {256, 32, 4, 1, 0, false, S::kSix8, M::kPairs, 0, 32, 64, 256, 2816};
    case PanelFormat::kQ6_K:
      return {256, 16, 4, 2, 32, false, S::kBytes16, M::kNone, 0, 0, 32, 288, 3360};
    case PanelFormat::kIQ4_NL:
      return {32, 32, 4, 0, 128, true, S::kNone, M::kNone, 0, 0, 0, 32, 288};
    case PanelFormat::kIQ4_XS:
      return {256, 32, 4, 0, 128, true, S::kIq4Xs, M::kNone, 0, 0, 32, 128, 2176};
    case PanelFormat::kI8x128:
      return {128, 128, 8, 0, 128, false, S::kNone, M::kNone, 0, 0, 0, 64, 2112, true};
    case PanelFormat::kF32:
    case PanelFormat::kF16:
    case PanelFormat::kBF16:
      break;
  }
  return {};
}

}  // namespace glimpse
