#include "kernels/matmul/panel_codes.h"

#include <cstring>

#include "kernels/quant/little_endian.h"
#include "kernels/quant/visit_format.h"

namespace glimpse {
namespace {

using Codes = BlockCodes;

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
  if constexpr (kind == ScaleKind::kOdd8 || kind == ScaleKind::kOdd16) {
    for (int first = 0; first < (kind == ScaleKind::kOdd8 ? 8 : 16); first += 8) {
      uint32_t word = 0;
      for (int s = 0; s < 8; ++s) word |= (c.scale[first + s] & 15u) << (4 * s);
      store32(at + 8 * first + 4 * row, word);
    }
    return;
  }
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
  if constexpr (kind == ScaleKind::kSix8Split) {
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
  if constexpr (kind == ScaleKind::kOdd8 || kind == ScaleKind::kOdd16) {
    for (int s = 0; s < (kind == ScaleKind::kOdd8 ? 8 : 16); ++s) {
      c.scale[s] = u8(load32(at + 64 * (s / 8) + 4 * row) >> (4 * (s % 8)) & 15u);
    }
    return;
  }
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
  if constexpr (kind == ScaleKind::kSix8Split) {
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
  if constexpr (L.d_type == ScaleType::kFloat) {
    std::memcpy(p + L.d_at + 4 * row, &c.own_scale, 4);
  } else if constexpr (L.d_type == ScaleType::kPower) {
    p[L.d_at + row] = u8(c.d);
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
  if constexpr (L.shared != 0) {
    constexpr int n = L.block / L.shared;
    uint32_t bits = 0;
    for (int i = 0; i < n; ++i) bits |= (c.q[i * L.shared] >> L.low_bits & 1u) << i;
    std::memcpy(p + L.shared_at + n / 8 * row, &bits, n / 8);
  }
  write_plane<Plane<format, false>>(c.q, p + 4 * row);
  if constexpr (L.high_bits != 0) write_plane<Plane<format, true>>(c.q, p + 4 * row);
}

template <PanelFormat format>
void read_codes(const uint8_t* p, int row, Codes& c) {
  constexpr PanelLayout L = panel_layout(format);
  std::memset(c.q, 0, sizeof c.q);
  if constexpr (L.d_type == ScaleType::kFloat) {
    std::memcpy(&c.own_scale, p + L.d_at + 4 * row, 4);
  } else if constexpr (L.d_type == ScaleType::kPower) {
    c.d = p[L.d_at + row];
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
  if constexpr (L.shared != 0) {
    constexpr int n = L.block / L.shared;
    uint32_t bits = 0;
    std::memcpy(&bits, p + L.shared_at + n / 8 * row, n / 8);
    for (int e = 0; e < L.block; ++e) c.q[e] = u8(c.q[e] | (bits >> (e / L.shared) & 1u) << L.low_bits);
  }
  if constexpr (L.high_bits != 0) read_plane<Plane<format, true>>(p + 4 * row, c.q);
}

struct CodeFunctions {
  void (*read)(const uint8_t* panel_block, int row, BlockCodes& codes);
  void (*write)(const BlockCodes& codes, int row, uint8_t* panel_block);
};
template <PanelFormat format>
constexpr CodeFunctions kFunctions = {read_codes<format>, write_codes<format>};

const CodeFunctions& functions_of(PanelFormat format) {
  return visit_format(format, []<PanelFormat known>() -> const CodeFunctions& { return kFunctions<known>; });
}

}  // namespace

void read_panel_codes(PanelFormat format, const uint8_t* panel_block, int row, BlockCodes& codes) {
  functions_of(format).read(panel_block, row, codes);
}
void write_panel_codes(PanelFormat format, const BlockCodes& codes, int row, uint8_t* panel_block) {
  functions_of(format).write(codes, row, panel_block);
}

}  // namespace glimpse
