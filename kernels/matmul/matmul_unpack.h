// Unpackers: how a kernel reads a panel block of each integer format, for 512-bit and 256-bit vectors alike (V is
// Vec512 or Vec256; with 256 bits, `half` says which 8 rows). All indices are compile-time constants once the kernel's
// loops are unrolled. Included only by ISA-specific files; everything has internal linkage.
#pragma once

#include "kernels/matmul/panel_layout.h"
#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

/// What the codes that `codes` returns are: with kUnsigned all are 0..255 (weight = code - offset, offset 128 for
/// 8-bit formats); with kSigned the 8-bit formats give int8 weights.
enum class ByteSign { kUnsigned, kSigned };

/// The table with 128 added to its values.
constexpr CodeTable raised(CodeTable table) {
  for (int8_t& value : table.value) value = static_cast<int8_t>(value + (value < 0 ? 128 : -128));
  return table;
}

template <PanelFormat format, class V, ByteSign sign>
struct Unpacker {
  static constexpr PanelLayout L = panel_layout(format);
  using I = typename V::I;
  using F = typename V::F;
  static constexpr CodeTable kTable = sign == ByteSign::kUnsigned ? raised(L.table) : L.table;
  static constexpr int kScaleVectors = L.scales == ScaleKind::kSix8        ? 2
                                       : L.scales == ScaleKind::kBytes16   ? 4
                                       : L.scales == ScaleKind::kSix16     ? 4
                                       : L.scales == ScaleKind::kSix8Split ? 2
                                       : L.scales == ScaleKind::kOdd16     ? 2
                                                                           : 1;

  const uint8_t* block;  // this panel block, moved to the half's first lane
  int half;
  I scale_codes[kScaleVectors];
  I min_codes[kScaleVectors];
  I shared_bits;
  F d;
  F min_scale;  // kPairs: -dmin; kBlock: -m / 128, to be multiplied by an activation bias (-128 * sum)

  /// Reads the head of a panel block.
  GLIMPSE_INLINE Unpacker(const uint8_t* panel_block, int which_half)
      : block(panel_block + 32 * which_half), half(which_half) {
    if constexpr (L.d_type == ScaleType::kFloat) {
      d = V::load_f(panel_block + L.d_at + 32 * half);
    } else if constexpr (L.d_type == ScaleType::kPower) {  // e = 0 stands for 2^-128, the half of the denormal 2^-127
      const I bits = V::max32(V::sll(V::load_u8(panel_block + L.d_at, half), 23), V::set32(0x00400000));
      d = V::mul(V::as_float(bits), V::set_f(0.5f));
    } else {
      d = V::load_f16(panel_block + L.d_at, half);
      if constexpr (L.d_shift != 0) d = V::mul(d, V::set_f(1.0f / (1 << L.d_shift)));
    }
    if constexpr (L.shared == 32) shared_bits = V::load_u8(panel_block + L.shared_at, half);
    if constexpr (L.shared == 8) shared_bits = V::load(block + L.shared_at);
    if constexpr (L.mins == MinKind::kPairs)
      min_scale = V::mul(V::load_f16(panel_block + L.m_at, half), V::set_f(-1.0f));
    if constexpr (L.mins == MinKind::kBlock) {
      min_scale = V::mul(V::load_f16(panel_block + L.m_at, half), V::set_f(-1.0f / 128));
    }
    const uint8_t* s = block + L.scales_at;
    if constexpr (L.scales == ScaleKind::kSix8) {
      load_sixes(s, scale_codes, min_codes);
    } else if constexpr (L.scales == ScaleKind::kBytes16) {
      for (int t = 0; t < 4; ++t) scale_codes[t] = V::load(s + 64 * t);
    } else if constexpr (L.scales == ScaleKind::kSix16) {
      load_sixes(s, scale_codes, scale_codes + 2);
    } else if constexpr (L.scales == ScaleKind::kSix8Split) {
      scale_codes[0] = V::load(s);
      scale_codes[1] = V::load_u16(panel_block + L.scales_at + 64, half);
    } else if constexpr (L.scales == ScaleKind::kOdd8 || L.scales == ScaleKind::kOdd16) {
      for (int t = 0; t < kScaleVectors; ++t) scale_codes[t] = V::load(s + 64 * t);
    }
  }

  /// 16 codes of 6 bits a row, of which a quad of each lane is one byte: low halves in two vectors, high bits in a
  /// third.
  static GLIMPSE_INLINE void load_sixes(const uint8_t* s, I* first, I* second) {
    const I a = V::load(s), b = V::load(s + 64), h = V::load(s + 128);
    const I low = V::set8(0x0f), high = V::set8(0x30);
    first[0] = V::or_(V::and_(a, low), V::and_(V::sll(h, 4), high));
    first[1] = V::or_(V::and_(V::srl(a, 4), low), V::and_(V::sll(h, 2), high));
    second[0] = V::or_(V::and_(b, low), V::and_(h, high));
    second[1] = V::or_(V::and_(V::srl(b, 4), low), V::and_(V::srl(h, 2), high));
  }

  /// d times the integer scale of sub-block s; exact.
  GLIMPSE_INLINE F scale(int s) const {
    if constexpr (L.scales == ScaleKind::kNone) {
      return d;
    } else {
      const int at = 8 * quad_position(s % 4);  // bit of the scale's byte
      I code;
      if constexpr (L.scales == ScaleKind::kSix8) {
        code = V::srl(scale_codes[s / 4], at);
        if (at != 24) code = V::and_(code, V::set32(0xff));
      } else if constexpr (L.scales == ScaleKind::kBytes16 && L.mins == MinKind::kPairs) {
        code = V::and_(V::srl(scale_codes[s / 4], at), V::set32(15));
      } else if constexpr (L.scales == ScaleKind::kBytes16) {
        code = V::sra(V::sll(scale_codes[s / 4], 24 - at), 24);
      } else if constexpr (L.scales == ScaleKind::kSix16) {
        code = V::srl(scale_codes[s / 4], at);
        if (at != 24) code = V::and_(code, V::set32(0xff));
        code = V::sub32(code, V::set32(32));
      } else if constexpr (L.scales == ScaleKind::kOdd8 || L.scales == ScaleKind::kOdd16) {  // 2 c + 1
        const I c = scale_codes[s / 8];
        const I twice = s % 8 == 0 ? V::sll(c, 1) : V::srl(c, 4 * (s % 8) - 1);
        code = V::or_(V::and_(twice, V::set32(30)), V::set32(1));
      } else {
        const I low = V::and_(V::srl(scale_codes[0], 4 * s), V::set32(15));
        const I high =
            V::and_(s < 2 ? V::sll(scale_codes[1], 4 - 2 * s) : V::srl(scale_codes[1], 2 * s - 4), V::set32(48));
        code = V::sub32(V::or_(low, high), V::set32(32));
      }
      return V::mul(V::to_float(code), d);
    }
  }

  /// kPairs: the mins of sub-blocks 2t and 2t+1 as a pair of int16 in each lane.
  GLIMPSE_INLINE I min_pair(int t) const {
    if constexpr (L.scales == ScaleKind::kSix8) {
      return V::and_(V::srl(min_codes[t / 2], 8 * (t % 2)), V::set32(0x00ff00ff));
    } else {
      return V::and_(V::srl(scale_codes[t / 2], 4 + 8 * (t % 2)), V::set32(0x000f000f));
    }
  }

  /// The four codes of group g of the block.
  GLIMPSE_INLINE I codes(int g) const {
    constexpr int low_groups = 8 / L.low_bits;
    I v = V::load(block + L.low_at(g / low_groups));
    if constexpr (L.low_bits == 8) return (sign == ByteSign::kUnsigned) != L.own ? V::xor_(v, V::set8(0x80)) : v;
    v = V::srl(v, L.low_bits * (g % low_groups));
    v = V::and_(v, V::set8((1 << L.low_bits) - 1));
    if constexpr (L.high_bits != 0) {
      constexpr int high_groups = 8 / L.high_bits;
      const I high = V::load(block + L.high_at(g / high_groups));
      const int up = L.low_bits - L.high_bits * (g % high_groups);  // shift that brings the bits to their place
      const I moved = up >= 0 ? V::sll(high, up) : V::srl(high, -up);
      v = V::or_(v, V::and_(moved, V::set8(((1 << L.high_bits) - 1) << L.low_bits)));
    }
    if constexpr (L.shared != 0) {
      const I all = V::sra(V::sll(shared_bits, 31 - 4 * g / L.shared), 31);
      v = V::or_(v, V::and_(all, V::set8(1 << L.low_bits)));
    }
    if constexpr (L.table) return V::lookup(kTable.value, v);
    return v;
  }
};

}  // namespace
}  // namespace glimpse
