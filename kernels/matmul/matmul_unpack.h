// Unpackers: how a kernel reads a panel block of each integer format, for 512-bit and 256-bit vectors alike (V is
// Vec512 or Vec256; with 256 bits, `half` says which 8 rows). They read one part of a block, the 128 columns (or the
// block's 32) that share a scale of activations; which one is known when it runs, all indices inside it are
// compile-time constants once the kernel's loops are unrolled. Included only by ISA-specific files; everything has
// internal linkage.
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
  static constexpr int kParts = act_parts(L);
  static constexpr int kPartBytes = (L.bytes - L.codes_at) / kParts;  // of codes
  static constexpr int kScaleVectors =
      L.scales == ScaleKind::kBytes16 || L.scales == ScaleKind::kSix16 || L.scales == ScaleKind::kSix8Split ? 2 : 1;

  const uint8_t* part_codes;  // of the half's first lane, in front of them codes_at bytes of anything
  I scale_codes[kScaleVectors];
  I min_codes;
  I shared_bits;
  F d;
  F min_scale;  // kPairs: -dmin; kBlock: -m / 128, to be multiplied by an activation bias (-128 * sum)

  /// Reads the head of a panel block, as far as it belongs to the part.
  GLIMPSE_INLINE Unpacker(const uint8_t* panel_block, int half, int part)
      : part_codes(panel_block + 32 * half + part * kPartBytes) {
    const auto shift = [part](I v, int bits)
                           GLIMPSE_INLINE_LAMBDA { return kParts == 1 ? v : V::srl_by(v, bits * part); };
    if constexpr (L.d_type == ScaleType::kFloat) {
      d = V::load_f(panel_block + L.d_at + 32 * half);
    } else if constexpr (L.d_type == ScaleType::kPower) {  // e = 0 stands for 2^-128, the half of the denormal 2^-127
      const I bits = V::max32(V::sll(V::load_u8(panel_block + L.d_at, half), 23), V::set32(0x00400000));
      d = V::mul(V::as_float(bits), V::set_f(0.5f));
    } else {
      d = V::load_f16(panel_block + L.d_at, half);
      if constexpr (L.d_shift != 0) d = V::mul(d, V::set_f(1.0f / (1 << L.d_shift)));
    }
    if constexpr (L.shared == 32) shared_bits = shift(V::load_u8(panel_block + L.shared_at, half), 4);
    if constexpr (L.shared == 8) shared_bits = shift(V::load(panel_block + 32 * half + L.shared_at), 16);
    if constexpr (L.mins == MinKind::kPairs)
      min_scale = V::mul(V::load_f16(panel_block + L.m_at, half), V::set_f(-1.0f));
    if constexpr (L.mins == MinKind::kBlock) {
      min_scale = V::mul(V::load_f16(panel_block + L.m_at, half), V::set_f(-1.0f / 128));
    }
    const uint8_t* s = panel_block + 32 * half + L.scales_at;
    const I low = V::set8(0x0f), high = V::set8(0x30);
    if constexpr (L.scales == ScaleKind::kSix8) {
      const I h = shift(V::load(s + 128), 2);
      scale_codes[0] = V::or_(V::and_(shift(V::load(s), 4), low), V::and_(V::sll(h, 4), high));
      min_codes = V::or_(V::and_(shift(V::load(s + 64), 4), low), V::and_(h, high));
    } else if constexpr (L.scales == ScaleKind::kBytes16) {
      for (int t = 0; t < 2; ++t) scale_codes[t] = V::load(s + 128 * part + 64 * t);
    } else if constexpr (L.scales == ScaleKind::kSix16) {
      const I codes = V::load(s + 64 * part), h = shift(V::load(s + 128), 4);
      scale_codes[0] = V::or_(V::and_(codes, low), V::and_(V::sll(h, 4), high));
      scale_codes[1] = V::or_(V::and_(V::srl(codes, 4), low), V::and_(V::sll(h, 2), high));
    } else if constexpr (L.scales == ScaleKind::kSix8Split) {
      scale_codes[0] = shift(V::load(s), 16);
      scale_codes[1] = shift(V::load_u16(panel_block + L.scales_at + 64, half), 8);
    } else if constexpr (L.scales == ScaleKind::kOdd8) {
      scale_codes[0] = shift(V::load(s), 16);
    } else if constexpr (L.scales == ScaleKind::kOdd16) {
      scale_codes[0] = V::load(s + 64 * part);
    }
  }

  /// d times the integer scale of the part's sub-block s; exact.
  GLIMPSE_INLINE F scale(int s) const {
    if constexpr (L.scales == ScaleKind::kNone) {
      return d;
    } else {
      const int at = 8 * quad_position(s % 4);  // bit of the scale's byte
      I code;
      if constexpr (L.scales == ScaleKind::kSix8) {
        code = V::srl(scale_codes[0], at);
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
        const I twice = s == 0 ? V::sll(scale_codes[0], 1) : V::srl(scale_codes[0], 4 * s - 1);
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

  /// kPairs: the mins of the part's sub-blocks 2t and 2t+1 as a pair of int16 in each lane.
  GLIMPSE_INLINE I min_pair(int t) const {
    if constexpr (L.scales == ScaleKind::kSix8) {
      return V::and_(V::srl(min_codes, 8 * t), V::set32(0x00ff00ff));
    } else {
      return V::and_(V::srl(scale_codes[t / 2], 4 + 8 * (t % 2)), V::set32(0x000f000f));
    }
  }

  /// The four codes of group g of the part.
  GLIMPSE_INLINE I codes(int g) const {
    constexpr int low_groups = 8 / L.low_bits;
    I v = V::load(part_codes + L.low_at(g / low_groups));
    if constexpr (L.low_bits == 8) return (sign == ByteSign::kUnsigned) != L.own ? V::xor_(v, V::set8(0x80)) : v;
    v = V::srl(v, L.low_bits * (g % low_groups));
    v = V::and_(v, V::set8((1 << L.low_bits) - 1));
    if constexpr (L.high_bits != 0) {
      constexpr int high_groups = 8 / L.high_bits;
      const I high = V::load(part_codes + L.high_at(g / high_groups));
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
