// The text of panel_pack.h's functions, for vectors of any width. The words of the rows' blocks are laid side by side
// (a lane is a row), then bits move inside lanes only: group G of a plane, the codes of columns 4G..4G+3 as a byte
// each, is one shift and one mask of a word. Included only by panel_pack_<isa>.cpp.
#pragma once

#include "kernels/matmul/panel_layout.h"
#include "kernels/matmul/panel_pack.h"
#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

template <class V>
GLIMPSE_INLINE void put(uint8_t* at, typename V::I v) {
  V::store_f(at, V::as_float(v));  // at any alignment
}

/// The words of one bit plane of a block, of as many rows as V has lanes.
template <class V, BlockPlane plane, int length>
struct PlaneWords {
  static constexpr int kWords = length * plane.bits / 32;
  typename V::I words[kWords];

  GLIMPSE_INLINE void load(const uint8_t* block, uint64_t row_bytes) { load_from<0>(block + plane.at, row_bytes); }

  template <int first>
  GLIMPSE_INLINE void load_from(const uint8_t* block, uint64_t row_bytes) {
    constexpr int n = kWords - first < V::kLanes ? kWords - first : V::kLanes;
    load_words<n>(block + 4 * first, row_bytes, words + first);
    if constexpr (first + n < kWords) load_from<first + n>(block, row_bytes);
  }

  GLIMPSE_INLINE typename V::I group(int g) const {
    if constexpr (plane.bits == 8) {
      return words[g];
    } else if constexpr (plane.run == 8) {  // four neighbouring bits, one for each byte
      const typename V::I four = V::and_(V::srl(words[g / 8], 4 * (g % 8)), V::set32(15));
      const typename V::I two = V::or_(four, V::sll(four, 7));
      return V::and_(V::or_(two, V::sll(two, 14)), V::set32(0x01010101));
    } else {
      constexpr int run_bytes = plane.run * plane.bits / 8, mask = 0x01010101 * ((1 << plane.bits) - 1);
      static_assert(run_bytes % 4 == 0);
      const int element = 4 * g % plane.run, field = element / run_bytes;
      const int byte = 4 * g / plane.run * run_bytes + element % run_bytes;
      return V::and_(V::srl(words[byte / 4], plane.bits * field), V::set32(mask));
    }
  }
};

/// Bytes of a word in the order 0, 2, 1, 3: quad_position().
template <class V>
GLIMPSE_INLINE typename V::I quads(typename V::I v) {
  const typename V::I ends = V::and_(v, V::set32(static_cast<int>(0xff0000ffu)));
  const typename V::I second = V::and_(V::sll(v, 8), V::set32(0x00ff0000)),
                      third = V::and_(V::srl(v, 8), V::set32(0x0000ff00));
  return V::or_(ends, V::or_(second, third));
}

template <class V>
GLIMPSE_INLINE typename V::I nibbles(typename V::I v, int shift) {
  return V::and_(V::srl(v, shift), V::set32(0x0f0f0f0f));
}

/// scales: of the first of the rows; to: its lane.
template <class V, ScaleKind kind>
GLIMPSE_INLINE void pack_scales(const uint8_t* scales, uint64_t row_bytes, uint8_t* to) {
  using I = typename V::I;
  if constexpr (kind == ScaleKind::kBytes16) {
    I s[4];
    load_words<4>(scales, row_bytes, s);
    for (int t = 0; t < 4; ++t) put<V>(to + 64 * t, quads<V>(s[t]));
  } else if constexpr (kind == ScaleKind::kSix16) {
    I s[3];
    load_words<3>(scales, row_bytes, s);
    for (int u = 0; u < 2; ++u) {
      put<V>(to + 64 * u, quads<V>(V::or_(nibbles<V>(s[0], 4 * u), V::sll(nibbles<V>(s[1], 4 * u), 4))));
    }
    put<V>(to + 128, quads<V>(s[2]));
  } else if constexpr (kind == ScaleKind::kSix8) {
    // Bytes of s[0]: scales 0 to 3 and, above, two bits of 4 to 7; of s[1] the same of the mins; of s[2] the low
    // nibbles of scales and mins 4 to 7.
    I s[3];
    load_words<3>(scales, row_bytes, s);
    const I two = V::set32(0x03030303);
    put<V>(to, quads<V>(V::or_(nibbles<V>(s[0], 0), V::sll(nibbles<V>(s[2], 0), 4))));
    put<V>(to + 64, quads<V>(V::or_(nibbles<V>(s[1], 0), V::sll(nibbles<V>(s[2], 4), 4))));
    const I scale = V::or_(V::and_(V::srl(s[0], 4), two), V::sll(V::and_(V::srl(s[0], 6), two), 2));
    const I min = V::or_(V::and_(V::srl(s[1], 4), two), V::sll(V::and_(V::srl(s[1], 6), two), 2));
    put<V>(to + 128, quads<V>(V::or_(scale, V::sll(min, 4))));
  } else if constexpr (kind == ScaleKind::kSix8Split) {
    I low;
    load_words<1>(scales + 2, row_bytes, &low);
    put<V>(to, low);
  }
}

/// n_bytes of each of the 16 rows, side by side.
template <int n_bytes>
GLIMPSE_INLINE void gather_bytes(const uint8_t* from, uint64_t row_bytes, uint8_t* to) {
  for (int r = 0; r < 16; ++r) __builtin_memcpy(to + n_bytes * r, from + static_cast<uint64_t>(r) * row_bytes, n_bytes);
}

template <class V, BlockPlane plane, PanelLayout L, bool is_high>
GLIMPSE_INLINE void pack_plane(const uint8_t* block, uint64_t row_bytes, uint8_t* to) {
  PlaneWords<V, plane, L.block> from;
  from.load(block, row_bytes);
  constexpr int per_vector = 8 / plane.bits;
#pragma GCC unroll 64
  for (int v = 0; v < L.block / 4 / per_vector; ++v) {
    typename V::I word = from.group(v * per_vector);
    for (int t = 1; t < per_vector; ++t) {
      word = V::or_(word, V::sll(from.group(v * per_vector + t), plane.bits * t));
    }
    if constexpr (L.own) word = V::xor_(word, V::set32(static_cast<int>(0x80808080u)));
    put<V>(to + (is_high ? L.high_at(v) : L.low_at(v)), word);
  }
}

template <class V, PanelFormat format>
void pack_blocks(const std::byte* rows, uint64_t row_bytes, int64_t n, std::byte* out) {
  constexpr BlockFormat f = block_format(format);
  constexpr PanelLayout L = panel_layout(format);
  constexpr int d_bytes = f.d_type == ScaleType::kFloat ? 4 : f.d_type == ScaleType::kPower ? 1 : 2;
  const auto* block = reinterpret_cast<const uint8_t*>(rows);
  auto* to = reinterpret_cast<uint8_t*>(out);
  for (int64_t b = 0; b < n; ++b, block += f.bytes(), to += L.bytes) {
    gather_bytes<d_bytes>(block + f.d_at, row_bytes, to + L.d_at);
    if constexpr (f.mins != MinKind::kNone) gather_bytes<2>(block + f.m_at, row_bytes, to + L.m_at);
    if constexpr (f.scales == ScaleKind::kSix8Split) {
      gather_bytes<2>(block + f.scales_at, row_bytes, to + L.scales_at + 64);
    }
    for (int half = 0; half < V::kHalves; ++half) {
      const uint8_t* first = block + static_cast<uint64_t>(half * V::kLanes) * row_bytes;
      uint8_t* lane = to + 4 * V::kLanes * half;
      pack_scales<V, f.scales>(first + f.scales_at, row_bytes, lane + L.scales_at);
      pack_plane<V, f.low, L, false>(first, row_bytes, lane);
      if constexpr (f.high.bits != 0) pack_plane<V, f.high, L, true>(first, row_bytes, lane);
    }
  }
}

/// n words of each row. halves: of which the low halves come first, then the high ones: two columns of 16 bits.
template <class V, bool halves>
void pack_words(const std::byte* rows, uint64_t row_bytes, int64_t n, std::byte* out) {
  for (int half = 0; half < V::kHalves; ++half) {
    const auto* from = reinterpret_cast<const uint8_t*>(rows) + static_cast<uint64_t>(half * V::kLanes) * row_bytes;
    uint8_t* to = reinterpret_cast<uint8_t*>(out) + (halves ? 2 : 4) * V::kLanes * half;
    const auto store = [](uint8_t* at, typename V::I word) GLIMPSE_INLINE_LAMBDA {
      if constexpr (halves) {
        store_halves(at, at + 32, word);
      } else {
        put<V>(at, word);
      }
    };
    typename V::I words[V::kLanes];
    int64_t i = 0;
    for (; i + V::kLanes <= n; i += V::kLanes, from += 4 * V::kLanes, to += 64 * V::kLanes) {
      load_words<V::kLanes>(from, row_bytes, words);
      for (int w = 0; w < V::kLanes; ++w) store(to + 64 * w, words[w]);
    }
    for (; i < n; ++i, from += 4, to += 64) {
      load_words<1>(from, row_bytes, words);
      store(to, words[0]);
    }
  }
}

template <class V, PanelFormat format>
[[gnu::always_inline]] constexpr PackRows pack_rows_of() {
  if constexpr (!block_format(format).codebook) {
    return pack_blocks<V, format>;
  } else {
    return nullptr;
  }
}

template <class V>
PackRows find_pack_rows(PanelFormat format) {
  switch (format) {
    case PanelFormat::kF32:
    case PanelFormat::kBF16:
      return pack_words<V, false>;
    case PanelFormat::kF16:
      return pack_words<V, true>;
    case PanelFormat::kI8x32:
      return pack_blocks<V, PanelFormat::kI8x32>;
#define GLIMPSE_BLOCK_32(type, name) \
  case PanelFormat::type:            \
    return pack_rows_of<V, PanelFormat::type>();
#define GLIMPSE_BLOCK_256 GLIMPSE_BLOCK_32
#include "kernels/quant/block_formats.inc"
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace glimpse
