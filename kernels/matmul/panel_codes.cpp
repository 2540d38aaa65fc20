#include "kernels/matmul/panel_codes.h"

#include <cstring>

#include "engine/base/half.h"

namespace glimpse {
namespace {

using Codes = BlockCodes;

uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
uint32_t load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
void store16(uint8_t* p, uint32_t v) {
  const auto narrow = static_cast<uint16_t>(v);
  std::memcpy(p, &narrow, sizeof narrow);
}
void store32(uint8_t* p, uint32_t v) {
  std::memcpy(p, &v, sizeof v);
}
uint8_t u8(uint32_t v) {
  return static_cast<uint8_t>(v);
}

// ---- GGUF blocks -------------------------------------------------------------------------------------------------
// Byte layouts: llama.cpp ggml/src/ggml-common.h; element orders: dequantize_row_* in ggml/src/ggml-quants.c.

// n bytes hold elements e (low nibble) and e + n (high nibble).
template <int n>
void decode_nibbles(const uint8_t* qs, uint8_t* q) {
  for (int i = 0; i < n; ++i) q[i] = qs[i] & 15;
  for (int i = 0; i < n; ++i) q[n + i] = qs[i] >> 4;
}
template <int n>
void encode_nibbles(const uint8_t* q, uint8_t* qs) {
  for (int i = 0; i < n; ++i) qs[i] = u8((q[i] & 15u) | (q[n + i] & 15u) << 4);
}

// 128 elements of 2 bits: byte l holds elements l, l + 32, l + 64, l + 96.
void decode_crumbs(const uint8_t* qs, uint8_t* q) {
  for (int j = 0; j < 4; ++j) {
    for (int l = 0; l < 32; ++l) q[32 * j + l] = (qs[l] >> (2 * j)) & 3;
  }
}
void encode_crumbs(const uint8_t* q, uint8_t* qs) {
  for (int l = 0; l < 32; ++l) {
    qs[l] = u8((q[l] & 3u) | (q[32 + l] & 3u) << 2 | (q[64 + l] & 3u) << 4 | (q[96 + l] & 3u) << 6);
  }
}

// 256 elements of 1 bit: bit s of byte l is element 32 s + l. Placed at bit `at` of the code.
void decode_bits256(const uint8_t* qh, int at, uint8_t* q) {
  for (int s = 0; s < 8; ++s) {
    for (int l = 0; l < 32; ++l) q[32 * s + l] = u8(q[32 * s + l] | ((qh[l] >> s) & 1u) << at);
  }
}
void encode_bits256(const uint8_t* q, int at, uint8_t* qh) {
  std::memset(qh, 0, 32);
  for (int s = 0; s < 8; ++s) {
    for (int l = 0; l < 32; ++l) qh[l] = u8(qh[l] | ((q[32 * s + l] >> at) & 1u) << s);
  }
}

// 32 fifth bits in one u32: bit e is element e. Eight at a time: copy a byte of the bits into each byte of a word, keep
// bit i in byte i, and turn what is not zero into bit 4 of the code.
void decode_bits32(uint32_t qh, uint8_t* q) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t one_each = ((qh >> (8 * i)) & 0xffu) * 0x0101010101010101u & 0x8040201008040201u;
    const uint64_t bits = ((one_each + 0x7f7f7f7f7f7f7f7fu) >> 7) & 0x0101010101010101u;
    uint64_t codes;
    std::memcpy(&codes, q + 8 * i, sizeof codes);
    codes |= bits << 4;
    std::memcpy(q + 8 * i, &codes, sizeof codes);
  }
}
uint32_t encode_bits32(const uint8_t* q) {
  uint32_t qh = 0;
  for (int e = 0; e < 32; ++e) qh |= ((q[e] >> 4) & 1u) << e;
  return qh;
}

// The 12 scale bytes of Q4_K and Q5_K.
void decode_six8(const uint8_t* s, Codes& c) {
  for (int k = 0; k < 4; ++k) {
    c.scale[k] = s[k] & 63;
    c.min[k] = s[k + 4] & 63;
    c.scale[k + 4] = u8((s[k + 8] & 15u) | (s[k] >> 6) << 4);
    c.min[k + 4] = u8((s[k + 8] >> 4) | (s[k + 4] >> 6) << 4);
  }
}
void encode_six8(const Codes& c, uint8_t* s) {
  for (int k = 0; k < 4; ++k) {
    s[k] = u8(c.scale[k] | (c.scale[k + 4] >> 4) << 6);
    s[k + 4] = u8(c.min[k] | (c.min[k + 4] >> 4) << 6);
    s[k + 8] = u8((c.scale[k + 4] & 15u) | (c.min[k + 4] & 15u) << 4);
  }
}

template <PanelFormat format>
void decode(const uint8_t* b, Codes& c) {
  if constexpr (format == PanelFormat::kQ4_0 || format == PanelFormat::kIQ4_NL) {
    c.d = load16(b);
    decode_nibbles<16>(b + 2, c.q);
  } else if constexpr (format == PanelFormat::kQ4_1) {
    c.d = load16(b);
    c.m = load16(b + 2);
    decode_nibbles<16>(b + 4, c.q);
  } else if constexpr (format == PanelFormat::kQ5_0) {
    c.d = load16(b);
    decode_nibbles<16>(b + 6, c.q);
    decode_bits32(load32(b + 2), c.q);
  } else if constexpr (format == PanelFormat::kQ5_1) {
    c.d = load16(b);
    c.m = load16(b + 2);
    decode_nibbles<16>(b + 8, c.q);
    decode_bits32(load32(b + 4), c.q);
  } else if constexpr (format == PanelFormat::kQ8_0) {
    c.d = load16(b);
    std::memcpy(c.q, b + 2, 32);
  } else if constexpr (format == PanelFormat::kQ2_K) {
    for (int s = 0; s < 16; ++s) c.scale[s] = b[s] & 15;
    for (int s = 0; s < 16; ++s) c.min[s] = b[s] >> 4;
    decode_crumbs(b + 16, c.q);
    decode_crumbs(b + 48, c.q + 128);
    c.d = load16(b + 80);
    c.m = load16(b + 82);
  } else if constexpr (format == PanelFormat::kQ3_K) {
    decode_crumbs(b + 32, c.q);
    decode_crumbs(b + 64, c.q + 128);
    decode_bits256(b, 2, c.q);
    const uint8_t* s = b + 96;
    for (int k = 0; k < 16; ++k) {
      const uint32_t low = k < 8 ? s[k] & 15u : s[k - 8] >> 4;
      c.scale[k] = u8(low | ((s[8 + k % 4] >> (2 * (k / 4))) & 3u) << 4);
    }
    c.d = load16(b + 108);
  } else if constexpr (format == PanelFormat::kQ4_K || format == PanelFormat::kQ5_K) {
    c.d = load16(b);
    c.m = load16(b + 2);
    decode_six8(b + 4, c);
    const uint8_t* qs = b + (format == PanelFormat::kQ4_K ? 16 : 48);
    for (int j = 0; j < 4; ++j) decode_nibbles<32>(qs + 32 * j, c.q + 64 * j);
    if constexpr (format == PanelFormat::kQ5_K) decode_bits256(b + 16, 4, c.q);
  } else if constexpr (format == PanelFormat::kQ6_K) {
    for (int j = 0; j < 8; ++j) {  // runs of 32 elements
      const uint8_t* low = b + 64 * (j / 4) + 32 * (j % 2);
      const uint8_t* high = b + 128 + 32 * (j / 4);
      const int low_shift = 4 * (j % 4 / 2), high_shift = 2 * (j % 4);
      uint8_t* q = c.q + 32 * j;
      for (int l = 0; l < 32; ++l) q[l] = u8(((low[l] >> low_shift) & 15u) | ((high[l] >> high_shift) & 3u) << 4);
    }
    std::memcpy(c.scale, b + 192, 16);
    c.d = load16(b + 208);
  } else if constexpr (format == PanelFormat::kIQ4_XS) {
    c.d = load16(b);
    const uint32_t high = load16(b + 2);
    for (int k = 0; k < 8; ++k) {
      c.scale[k] = u8(((b[4 + k / 2] >> (4 * (k % 2))) & 15u) | ((high >> (2 * k)) & 3u) << 4);
    }
    for (int k = 0; k < 8; ++k) decode_nibbles<16>(b + 8 + 16 * k, c.q + 32 * k);
  } else if constexpr (format == PanelFormat::kI8x128) {
    std::memcpy(&c.own_scale, b, 4);
    std::memcpy(c.q, b + 4, 128);
  }
}

template <PanelFormat format>
void encode(const Codes& c, uint8_t* b) {
  if constexpr (format == PanelFormat::kQ4_0 || format == PanelFormat::kIQ4_NL) {
    store16(b, c.d);
    encode_nibbles<16>(c.q, b + 2);
  } else if constexpr (format == PanelFormat::kQ4_1) {
    store16(b, c.d);
    store16(b + 2, c.m);
    encode_nibbles<16>(c.q, b + 4);
  } else if constexpr (format == PanelFormat::kQ5_0) {
    store16(b, c.d);
    store32(b + 2, encode_bits32(c.q));
    encode_nibbles<16>(c.q, b + 6);
  } else if constexpr (format == PanelFormat::kQ5_1) {
    store16(b, c.d);
    store16(b + 2, c.m);
    store32(b + 4, encode_bits32(c.q));
    encode_nibbles<16>(c.q, b + 8);
  } else if constexpr (format == PanelFormat::kQ8_0) {
    store16(b, c.d);
    std::memcpy(b + 2, c.q, 32);
  } else if constexpr (format == PanelFormat::kQ2_K) {
    for (int s = 0; s < 16; ++s) b[s] = u8(c.scale[s] | c.min[s] << 4);
    encode_crumbs(c.q, b + 16);
    encode_crumbs(c.q + 128, b + 48);
    store16(b + 80, c.d);
    store16(b + 82, c.m);
  } else if constexpr (format == PanelFormat::kQ3_K) {
    encode_bits256(c.q, 2, b);
    encode_crumbs(c.q, b + 32);
    encode_crumbs(c.q + 128, b + 64);
    uint8_t* s = b + 96;
    for (int k = 0; k < 8; ++k) s[k] = u8((c.scale[k] & 15u) | (c.scale[k + 8] & 15u) << 4);
    for (int k = 0; k < 4; ++k) {
      s[8 + k] =
          u8((c.scale[k] >> 4) | (c.scale[k + 4] >> 4) << 2 | (c.scale[k + 8] >> 4) << 4 | (c.scale[k + 12] >> 4) << 6);
    }
    store16(b + 108, c.d);
  } else if constexpr (format == PanelFormat::kQ4_K || format == PanelFormat::kQ5_K) {
    store16(b, c.d);
    store16(b + 2, c.m);
    encode_six8(c, b + 4);
    uint8_t* qs = b + (format == PanelFormat::kQ4_K ? 16 : 48);
    for (int j = 0; j < 4; ++j) encode_nibbles<32>(c.q + 64 * j, qs + 32 * j);
    if constexpr (format == PanelFormat::kQ5_K) encode_bits256(c.q, 4, b + 16);
  } else if constexpr (format == PanelFormat::kQ6_K) {
    for (int n = 0; n < 2; ++n) {
      const uint8_t* q = c.q + 128 * n;
      for (int l = 0; l < 64; ++l) b[64 * n + l] = u8((q[l] & 15u) | (q[64 + l] & 15u) << 4);
      for (int l = 0; l < 32; ++l) {
        b[128 + 32 * n + l] = u8((q[l] >> 4) | (q[32 + l] >> 4) << 2 | (q[64 + l] >> 4) << 4 | (q[96 + l] >> 4) << 6);
      }
    }
    std::memcpy(b + 192, c.scale, 16);
    store16(b + 208, c.d);
  } else if constexpr (format == PanelFormat::kIQ4_XS) {
    store16(b, c.d);
    uint32_t high = 0;
    for (int k = 0; k < 8; ++k) high |= static_cast<uint32_t>(c.scale[k] >> 4) << (2 * k);
    store16(b + 2, high);
    for (int k = 0; k < 4; ++k) b[4 + k] = u8((c.scale[2 * k] & 15u) | (c.scale[2 * k + 1] & 15u) << 4);
    for (int k = 0; k < 8; ++k) encode_nibbles<16>(c.q + 32 * k, b + 8 + 16 * k);
  } else if constexpr (format == PanelFormat::kI8x128) {
    std::memcpy(b, &c.own_scale, 4);
    std::memcpy(b + 4, c.q, 128);
  }
}

// ---- Planes of a panel block -------------------------------------------------------------------------------------

// One plane of a format: its bits are bits [shift, shift + bits) of the codes.
template <PanelFormat format, bool is_high>
struct Plane {
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr int bits = is_high ? L.high_bits : L.low_bits, shift = is_high ? L.low_bits : 0;
  static constexpr int per_vector = 8 / bits;  // groups
  static constexpr int n_vectors = L.block / 4 / per_vector;
  static constexpr uint32_t mask = 0x01010101u * ((1u << bits) - 1);
  static constexpr uint32_t stored_offset = L.own ? 0x80808080u : 0;  // adding 128 is flipping the top bit
  static constexpr int at(int v) { return is_high ? L.high_at(v) : L.low_at(v); }
};

// lane: the row's lane in the first vector of the panel block.
template <class P>
void write_plane(const uint8_t* q, uint8_t* lane) {
  for (int v = 0; v < P::n_vectors; ++v) {
    uint32_t word = 0;
    for (int t = 0; t < P::per_vector; ++t) {
      word |= ((load32(q + 4 * (v * P::per_vector + t)) >> P::shift) & P::mask) << (P::bits * t);
    }
    store32(lane + P::at(v), word ^ P::stored_offset);
  }
}

// The inverse; ORs into q.
template <class P>
void read_plane(const uint8_t* lane, uint8_t* q) {
  for (int v = 0; v < P::n_vectors; ++v) {
    const uint32_t word = load32(lane + P::at(v)) ^ P::stored_offset;
    for (int t = 0; t < P::per_vector; ++t) {
      uint8_t* group = q + 4 * (v * P::per_vector + t);
      store32(group, load32(group) | ((word >> (P::bits * t)) & P::mask) << P::shift);
    }
  }
}

template <ScaleKind kind>
void write_scales(const Codes& c, int row, uint8_t* at) {
  for (int j = 0; j < 4; ++j) {
    uint8_t* byte = at + 4 * row + quad_position(j);
    if constexpr (kind == ScaleKind::kSix8) {
      byte[0] = u8((c.scale[j] & 15u) | (c.scale[j + 4] & 15u) << 4);
      byte[64] = u8((c.min[j] & 15u) | (c.min[j + 4] & 15u) << 4);
      byte[128] = u8((c.scale[j] >> 4) | (c.scale[j + 4] >> 4) << 2 | (c.min[j] >> 4) << 4 | (c.min[j + 4] >> 4) << 6);
    } else if constexpr (kind == ScaleKind::kSix16) {
      byte[0] = u8((c.scale[j] & 15u) | (c.scale[4 + j] & 15u) << 4);
      byte[64] = u8((c.scale[8 + j] & 15u) | (c.scale[12 + j] & 15u) << 4);
      byte[128] =
          u8((c.scale[j] >> 4) | (c.scale[4 + j] >> 4) << 2 | (c.scale[8 + j] >> 4) << 4 | (c.scale[12 + j] >> 4) << 6);
    }
  }
  if constexpr (kind == ScaleKind::kIq4Xs) {
    uint32_t low = 0, high = 0;
    for (int s = 0; s < 8; ++s) {
      low |= (c.scale[s] & 15u) << (4 * s);
      high |= static_cast<uint32_t>(c.scale[s] >> 4) << (2 * s);
    }
    store32(at + 4 * row, low);
    store16(at + 64 + 2 * row, high);
  }
}

template <ScaleKind kind>
void read_scales(const uint8_t* at, int row, Codes& c) {
  for (int j = 0; j < 4; ++j) {
    const uint8_t* byte = at + 4 * row + quad_position(j);
    if constexpr (kind == ScaleKind::kSix8) {
      c.scale[j] = u8((byte[0] & 15u) | (byte[128] & 3u) << 4);
      c.scale[j + 4] = u8((byte[0] >> 4) | ((byte[128] >> 2) & 3u) << 4);
      c.min[j] = u8((byte[64] & 15u) | ((byte[128] >> 4) & 3u) << 4);
      c.min[j + 4] = u8((byte[64] >> 4) | ((byte[128] >> 6) & 3u) << 4);
    } else if constexpr (kind == ScaleKind::kSix16) {
      for (int t = 0; t < 4; ++t) {
        c.scale[4 * t + j] = u8(((byte[64 * (t / 2)] >> (4 * (t % 2))) & 15u) | ((byte[128] >> (2 * t)) & 3u) << 4);
      }
    }
  }
  if constexpr (kind == ScaleKind::kIq4Xs) {
    const uint32_t low = load32(at + 4 * row), high = load16(at + 64 + 2 * row);
    for (int s = 0; s < 8; ++s) c.scale[s] = u8(((low >> (4 * s)) & 15u) | ((high >> (2 * s)) & 3u) << 4);
  }
}

// The byte that the panel stores for sub-block s of a kBytes16 format.
template <PanelLayout L>
constexpr bool has_byte_mins = L.scales == ScaleKind::kBytes16&& L.mins == MinKind::kPairs;

template <PanelFormat format>
void write_codes(const Codes& c, int row, uint8_t* p) {
  constexpr PanelLayout L = panel_layout(format);
  if constexpr (L.own) {
    std::memcpy(p + L.d_at + 4 * row, &c.own_scale, 4);
  } else {
    store16(p + L.d_at + 2 * row, c.d);
  }
  if constexpr (L.mins != MinKind::kNone) store16(p + L.m_at + 2 * row, c.m);
  if constexpr (L.scales == ScaleKind::kBytes16) {
    for (int s = 0; s < 16; ++s) {
      p[L.scales_at + 64 * (s / 4) + 4 * row + quad_position(s % 4)] =
          has_byte_mins<L> ? u8(c.scale[s] | c.min[s] << 4) : c.scale[s];
    }
  } else {
    write_scales<L.scales>(c, row, p + L.scales_at);
  }
  write_plane<Plane<format, false>>(c.q, p + 4 * row);
  if constexpr (L.high_bits != 0) write_plane<Plane<format, true>>(c.q, p + 4 * row);
}

template <PanelFormat format>
void read_codes(const uint8_t* p, int row, Codes& c) {
  constexpr PanelLayout L = panel_layout(format);
  std::memset(c.q, 0, sizeof c.q);
  if constexpr (L.own) {
    std::memcpy(&c.own_scale, p + L.d_at + 4 * row, 4);
  } else {
    c.d = load16(p + L.d_at + 2 * row);
  }
  if constexpr (L.mins != MinKind::kNone) c.m = load16(p + L.m_at + 2 * row);
  if constexpr (L.scales == ScaleKind::kBytes16) {
    for (int s = 0; s < 16; ++s) {
      const uint8_t byte = p[L.scales_at + 64 * (s / 4) + 4 * row + quad_position(s % 4)];
      c.scale[s] = has_byte_mins<L> ? byte & 15 : byte;
      c.min[s] = has_byte_mins<L> ? byte >> 4 : 0;
    }
  } else {
    read_scales<L.scales>(p + L.scales_at, row, c);
  }
  read_plane<Plane<format, false>>(p + 4 * row, c.q);
  if constexpr (L.high_bits != 0) read_plane<Plane<format, true>>(p + 4 * row, c.q);
}

}  // namespace

// Calls function<format>(arguments) for the integer format at hand.
#define GLIMPSE_DISPATCH_INTEGER(format, function, ...)   \
  switch (format) {                                       \
    case PanelFormat::kQ4_0:                              \
      return function<PanelFormat::kQ4_0>(__VA_ARGS__);   \
    case PanelFormat::kQ4_1:                              \
      return function<PanelFormat::kQ4_1>(__VA_ARGS__);   \
    case PanelFormat::kQ5_0:                              \
      return function<PanelFormat::kQ5_0>(__VA_ARGS__);   \
    case PanelFormat::kQ5_1:                              \
      return function<PanelFormat::kQ5_1>(__VA_ARGS__);   \
    case PanelFormat::kQ8_0:                              \
      return function<PanelFormat::kQ8_0>(__VA_ARGS__);   \
    case PanelFormat::kQ2_K:                              \
      return function<PanelFormat::kQ2_K>(__VA_ARGS__);   \
    case PanelFormat::kQ3_K:                              \
      return function<PanelFormat::kQ3_K>(__VA_ARGS__);   \
    case PanelFormat::kQ4_K:                              \
      return function<PanelFormat::kQ4_K>(__VA_ARGS__);   \
    case PanelFormat::kQ5_K:                              \
      return function<PanelFormat::kQ5_K>(__VA_ARGS__);   \
    case PanelFormat::kQ6_K:                              \
      return function<PanelFormat::kQ6_K>(__VA_ARGS__);   \
    case PanelFormat::kIQ4_NL:                            \
      return function<PanelFormat::kIQ4_NL>(__VA_ARGS__); \
    case PanelFormat::kIQ4_XS:                            \
      return function<PanelFormat::kIQ4_XS>(__VA_ARGS__); \
    case PanelFormat::kI8x128:                            \
      return function<PanelFormat::kI8x128>(__VA_ARGS__); \
    case PanelFormat::kF32:                               \
    case PanelFormat::kF16:                               \
    case PanelFormat::kBF16:                              \
      return;                                             \
  }

void decode_row_block(PanelFormat format, const uint8_t* block, BlockCodes& codes) {
  GLIMPSE_DISPATCH_INTEGER(format, decode, block, codes)
}
void encode_row_block(PanelFormat format, const BlockCodes& codes, uint8_t* block) {
  GLIMPSE_DISPATCH_INTEGER(format, encode, codes, block)
}
void read_panel_codes(PanelFormat format, const uint8_t* panel_block, int row, BlockCodes& codes) {
  GLIMPSE_DISPATCH_INTEGER(format, read_codes, panel_block, row, codes)
}
void write_panel_codes(PanelFormat format, const BlockCodes& codes, int row, uint8_t* panel_block) {
  GLIMPSE_DISPATCH_INTEGER(format, write_codes, codes, row, panel_block)
}

float sub_scale(const PanelLayout& layout, const BlockCodes& codes, int s) {
  const float d = layout.own ? codes.own_scale : half_to_float(codes.d);
  switch (layout.scales) {
    case ScaleKind::kNone:
      return d;
    case ScaleKind::kSix8:
      return d * static_cast<float>(codes.scale[s]);
    case ScaleKind::kBytes16:
      return d * static_cast<float>(layout.is_signed() ? static_cast<int8_t>(codes.scale[s]) : codes.scale[s]);
    case ScaleKind::kSix16:
    case ScaleKind::kIq4Xs:
      return d * static_cast<float>(codes.scale[s] - 32);
  }
  return d;
}

}  // namespace glimpse
