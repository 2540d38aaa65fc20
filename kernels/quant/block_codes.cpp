#include "kernels/quant/block_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/quant/codebook_blocks.h"
#include "kernels/quant/little_endian.h"
#include "kernels/quant/visit_format.h"

namespace glimpse {
namespace {

// ---- Planes ------------------------------------------------------------------------------------------------------

// One bit of every element, 32 elements in four bytes: bit e is element e. Eight at a time: copy a byte of the bits
// into each byte of a word, keep bit i in byte i, and turn what is not zero into the bit of the code.
void decode_bits(uint32_t bits, int at, uint8_t* q) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t spread = ((bits >> (8 * i)) & 0xff) * 0x0101010101010101u & 0x8040201008040201u;
    const uint64_t high = ((spread + 0x7f7f7f7f7f7f7f7fu) | spread) >> 7 & 0x0101010101010101u;
    uint64_t codes;
    std::memcpy(&codes, q + 8 * i, 8);
    codes |= high << at;
    std::memcpy(q + 8 * i, &codes, 8);
  }
}
uint32_t encode_bits(const uint8_t* q, int at) {
  uint32_t bits = 0;
  for (int e = 0; e < 32; ++e) bits |= (q[e] >> at & 1u) << e;
  return bits;
}

/// first: the plane holds the low bits of the codes and overwrites what was there; otherwise it goes above them.
template <BlockPlane plane, int length, int shift>
void decode_plane(const uint8_t* block, uint8_t* q) {
  constexpr int fields = 8 / plane.bits, run_bytes = plane.run / fields;
  constexpr auto mask = static_cast<uint8_t>((1 << plane.bits) - 1);
  if constexpr (plane.bits == 8) {
    std::memcpy(q, block + plane.at, length);
  } else if constexpr (plane.run == 8) {
    for (int first = 0; first < length; first += 32)
      decode_bits(load32(block + plane.at + first / 8), shift, q + first);
  } else {
    for (int run = 0; run < length / plane.run; ++run) {
      const uint8_t* bytes = block + plane.at + run * run_bytes;
      for (int j = 0; j < fields; ++j) {
        uint8_t* to = q + run * plane.run + j * run_bytes;
        for (int l = 0; l < run_bytes; ++l) {
          const auto code = static_cast<uint8_t>((bytes[l] >> (plane.bits * j) & mask) << shift);
          to[l] = shift == 0 ? code : static_cast<uint8_t>(to[l] | code);
        }
      }
    }
  }
}

template <BlockPlane plane, int length, int shift>
void encode_plane(const uint8_t* q, uint8_t* block) {
  constexpr int fields = 8 / plane.bits, run_bytes = plane.run / fields;
  constexpr uint32_t mask = (1u << plane.bits) - 1;
  if constexpr (plane.bits == 8) {
    std::memcpy(block + plane.at, q, length);
  } else if constexpr (plane.run == 8) {
    for (int first = 0; first < length; first += 32) {
      store32(block + plane.at + first / 8, encode_bits(q + first, shift));
    }
  } else {
    for (int run = 0; run < length / plane.run; ++run) {
      const uint8_t* from = q + run * plane.run;
      for (int l = 0; l < run_bytes; ++l) {
        uint32_t byte = 0;
        for (int j = 0; j < fields; ++j) byte |= (from[j * run_bytes + l] >> shift & mask) << (plane.bits * j);
        block[plane.at + run * run_bytes + l] = u8(byte);
      }
    }
  }
}

// ---- Scales ------------------------------------------------------------------------------------------------------

template <ScaleKind kind, bool mins>
void decode_scales(const uint8_t* s, BlockCodes& c) {
  if constexpr (kind == ScaleKind::kSix8) {
    for (int k = 0; k < 4; ++k) {
      c.scale[k] = s[k] & 63;
      c.min[k] = s[k + 4] & 63;
      c.scale[k + 4] = u8((s[k + 8] & 15u) | (s[k] >> 6) << 4);
      c.min[k + 4] = u8((s[k + 8] >> 4) | (s[k + 4] >> 6) << 4);
    }
  } else if constexpr (kind == ScaleKind::kBytes16 && mins) {
    for (int k = 0; k < 16; ++k) c.scale[k] = s[k] & 15;
    for (int k = 0; k < 16; ++k) c.min[k] = s[k] >> 4;
  } else if constexpr (kind == ScaleKind::kBytes16) {
    std::memcpy(c.scale, s, 16);
  } else if constexpr (kind == ScaleKind::kSix16) {
    for (int k = 0; k < 16; ++k) {
      const uint32_t low = k < 8 ? s[k] & 15u : s[k - 8] >> 4;
      c.scale[k] = u8(low | ((s[8 + k % 4] >> (2 * (k / 4))) & 3u) << 4);
    }
  } else if constexpr (kind == ScaleKind::kSix8Split) {
    const uint32_t high = load16(s);
    for (int k = 0; k < 8; ++k) {
      c.scale[k] = u8(((s[2 + k / 2] >> (4 * (k % 2))) & 15u) | ((high >> (2 * k)) & 3u) << 4);
    }
  }
}

template <ScaleKind kind, bool mins>
void encode_scales(const BlockCodes& c, uint8_t* s) {
  if constexpr (kind == ScaleKind::kSix8) {
    for (int k = 0; k < 4; ++k) {
      s[k] = u8(c.scale[k] | (c.scale[k + 4] >> 4) << 6);
      s[k + 4] = u8(c.min[k] | (c.min[k + 4] >> 4) << 6);
      s[k + 8] = u8((c.scale[k + 4] & 15u) | (c.min[k + 4] & 15u) << 4);
    }
  } else if constexpr (kind == ScaleKind::kBytes16 && mins) {
    for (int k = 0; k < 16; ++k) s[k] = u8(c.scale[k] | c.min[k] << 4);
  } else if constexpr (kind == ScaleKind::kBytes16) {
    std::memcpy(s, c.scale, 16);
  } else if constexpr (kind == ScaleKind::kSix16) {
    for (int k = 0; k < 8; ++k) s[k] = u8((c.scale[k] & 15u) | (c.scale[k + 8] & 15u) << 4);
    for (int k = 0; k < 4; ++k) {
      s[8 + k] =
          u8((c.scale[k] >> 4) | (c.scale[k + 4] >> 4) << 2 | (c.scale[k + 8] >> 4) << 4 | (c.scale[k + 12] >> 4) << 6);
    }
  } else if constexpr (kind == ScaleKind::kSix8Split) {
    uint32_t high = 0;
    for (int k = 0; k < 8; ++k) high |= static_cast<uint32_t>(c.scale[k] >> 4) << (2 * k);
    store16(s, high);
    for (int k = 0; k < 4; ++k) s[2 + k] = u8((c.scale[2 * k] & 15u) | (c.scale[2 * k + 1] & 15u) << 4);
  }
}

// ---- Blocks ------------------------------------------------------------------------------------------------------

template <ScaleType type>
void decode_d(const uint8_t* d, BlockCodes& c) {
  if constexpr (type == ScaleType::kFloat) {
    std::memcpy(&c.own_scale, d, 4);
  } else if constexpr (type == ScaleType::kPower) {
    c.d = *d;
  } else if constexpr (type == ScaleType::kNibbles) {
    c.d = 0;
    for (int i = 0; i < 4; ++i) c.d = static_cast<uint16_t>(c.d | load16(d + 2 * i) >> 12 << (4 * i));
  } else {
    c.d = load16(d);
  }
}
template <ScaleType type>
void encode_d(const BlockCodes& c, uint8_t* d) {
  if constexpr (type == ScaleType::kFloat) {
    std::memcpy(d, &c.own_scale, 4);
  } else if constexpr (type == ScaleType::kPower) {
    *d = static_cast<uint8_t>(c.d);
  } else if constexpr (type == ScaleType::kNibbles) {
    for (int i = 0; i < 4; ++i) store16(d + 2 * i, (load16(d + 2 * i) & 0xfffu) | (c.d >> (4 * i) & 15u) << 12);
  } else {
    store16(d, c.d);
  }
}

template <DType type>
void decode(const uint8_t* block, BlockCodes& c) {
  constexpr BlockFormat f = block_format(type);
  decode_d<f.d_type>(block + f.d_at, c);
  if constexpr (f.m_at >= 0) c.m = load16(block + f.m_at);
  if constexpr (f.codebook) {
    decode_codebook_block(type, block, c);
  } else {
    decode_scales<f.scales, f.mins != MinKind::kNone>(block + f.scales_at, c);
    decode_plane<f.low, f.length(), 0>(block, c.q);
    if constexpr (f.high.bits != 0) decode_plane<f.high, f.length(), f.low.bits>(block, c.q);
  }
}

template <DType type>
void encode(const BlockCodes& c, uint8_t* block) {
  constexpr BlockFormat f = block_format(type);
  encode_d<f.d_type>(c, block + f.d_at);
  if constexpr (f.m_at >= 0) store16(block + f.m_at, c.m);
  if constexpr (!f.codebook) {
    encode_scales<f.scales, f.mins != MinKind::kNone>(c, block + f.scales_at);
    encode_plane<f.low, f.length(), 0>(c.q, block);
    if constexpr (f.high.bits != 0) encode_plane<f.high, f.length(), f.low.bits>(c.q, block);
  }
}

template <DType type>
void set_scales(float d, float m, uint8_t* block) {
  constexpr BlockFormat f = block_format(type);
  BlockCodes c;
  c.own_scale = d;
  c.d = float_to_half(d * static_cast<float>(1 << f.d_shift));
  if constexpr (f.d_type == ScaleType::kPower) {
    c.d = static_cast<uint16_t>(std::clamp(128 + static_cast<int>(std::lround(std::log2(std::fabs(d)))), 0, 252));
  }
  encode_d<f.d_type>(c, block + f.d_at);
  if constexpr (f.m_at >= 0) store16(block + f.m_at, float_to_half(m));
}

template <DType type>
void dequantize(const BlockCodes& c, int count, float* out) {
  constexpr BlockFormat f = block_format(type);
  const float m = half_to_float(c.m);
  for (int s = 0; s < f.subs(); ++s) {
    const float scale = sub_scale(f, c, s), min = m * static_cast<float>(c.min[s]);
    const int first = s * f.sub, end = std::min(first + f.sub, count);
    for (int e = first; e < end; ++e) {
      const float y = scale * static_cast<float>(code_value(f, c.q[e]));
      out[e] = f.mins == MinKind::kPairs ? y - min : f.mins == MinKind::kBlock ? y + m : y;
    }
  }
}

struct BlockFunctions {
  void (*decode)(const uint8_t* block, BlockCodes& codes);
  void (*encode)(const BlockCodes& codes, uint8_t* block);
  void (*dequantize)(const BlockCodes& codes, int count, float* out);
  void (*set_scales)(float d, float m, uint8_t* block);
};
template <DType type>
constexpr BlockFunctions kFunctions = {decode<type>, encode<type>, dequantize<type>, set_scales<type>};

const BlockFunctions& functions_of(DType type) {
  return visit_format(type, []<DType known>() -> const BlockFunctions& { return kFunctions<known>; });
}

}  // namespace

void decode_block(DType type, const uint8_t* block, BlockCodes& codes) {
  functions_of(type).decode(block, codes);
}
void encode_block(DType type, const BlockCodes& codes, uint8_t* block) {
  functions_of(type).encode(codes, block);
}
void dequantize_codes(DType type, const BlockCodes& codes, int count, float* out) {
  functions_of(type).dequantize(codes, count, out);
}

void set_block_scales(DType type, float d, float m, uint8_t* block) {
  functions_of(type).set_scales(d, m, block);
}

}  // namespace glimpse
