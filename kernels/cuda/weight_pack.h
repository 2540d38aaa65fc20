// Rows of blocks (packed_block() says how they lie) into the planes of weight_layout.h: one call packs one cell (32
// columns of one row). Used by the packing kernel; tests unpack on the host (tests/cuda/weight_unpack.cpp).
#pragma once

#include "kernels/cuda/weight_layout.h"

namespace glimpse::cuda {

/// A block as the packing kernel takes it: that of files, or, where these hold entries of codebooks, what
/// to_device_blocks() (device_blocks.h) makes of it: d; the codes of the scales, 4 bits each, or 8 with the high bits
/// that the codes share; the codes, 4 bits each.
GLIMPSE_HD constexpr BlockFormat packed_block(Format format) {
  BlockFormat f = block_format(format);
  if (!f.codebook) return f;
  const int scale_bytes = f.shared != 0 ? 16 : f.subs() / 2;
  f.d_at = 0;
  f.scales_at = 2;
  f.low = {f.scales_at + scale_bytes, 4, 256};
  f.high = {};
  f.info.block_bytes = static_cast<uint32_t>(f.low.at + 128);
  return f;
}

namespace pack {

GLIMPSE_DEVICE uint32_t u16_at(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8;
}
GLIMPSE_DEVICE uint32_t u32_at(const uint8_t* p) {
  return u16_at(p) | u16_at(p + 2) << 16;
}
GLIMPSE_DEVICE void put16(uint8_t* to, uint32_t value) {
  *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(value);
}
GLIMPSE_DEVICE void put32(uint8_t* to, uint32_t value) {
  *reinterpret_cast<uint32_t*>(to) = value;
}

// The code of element e of a block, unsigned (Q8_0: the bits of the int8).
template <Format format>
GLIMPSE_DEVICE uint32_t code_at(const uint8_t* b, int e) {
  constexpr BlockFormat f = packed_block(format);
  constexpr BlockPlane low = f.low, high = f.high;
  constexpr int low_bytes = low.run * low.bits / 8;
  const int i = e % low.run;
  uint32_t code =
      b[low.at + e / low.run * low_bytes + i % low_bytes] >> (low.bits * (i / low_bytes)) & ((1u << low.bits) - 1);
  if constexpr (high.bits > 0) {
    constexpr int high_bytes = high.run * high.bits / 8;
    const int j = e % high.run;
    const uint32_t byte = b[high.at + e / high.run * high_bytes + j % high_bytes];
    code |= (byte >> (high.bits * (j / high_bytes)) & ((1u << high.bits) - 1)) << low.bits;
  }
  return code;
}

// d, and dmin or m behind it.
template <Format format>
GLIMPSE_DEVICE void pack_d(const uint8_t* b, uint8_t* to) {
  constexpr BlockFormat f = packed_block(format);
  if constexpr (f.d_type == ScaleType::kPower) {
    *to = b[f.d_at];
  } else {
    put16(to, u16_at(b + f.d_at));
  }
  if constexpr (f.m_at >= 0) put16(to + 2, u16_at(b + f.m_at));
}

// The scale record of a super-block (see weight_layout.h).
template <Format format>
GLIMPSE_DEVICE void pack_super_scales(const uint8_t* b, uint8_t* record, uint8_t* d) {
  constexpr BlockFormat f = packed_block(format);
  const uint8_t* s = b + f.scales_at;
  if constexpr (f.scales == ScaleKind::kSix8) {
    uint32_t low_scales = 0, low_mins = 0, high = 0;
    GLIMPSE_NO_UNROLL
    for (int k = 0; k < 8; ++k) {
      const uint32_t scale = k < 4 ? s[k] & 63u : (s[k + 4] & 15u) | static_cast<uint32_t>(s[k - 4]) >> 6 << 4;
      const uint32_t min =
          k < 4 ? s[k + 4] & 63u : static_cast<uint32_t>(s[k + 4]) >> 4 | static_cast<uint32_t>(s[k]) >> 6 << 4;
      low_scales |= (scale & 15u) << (4 * k);
      low_mins |= (min & 15u) << (4 * k);
      high |= scale >> 4 << (2 * k) | min >> 4 << (16 + 2 * k);
    }
    pack_d<format>(b, record);
    put32(record + 4, low_scales);
    put32(record + 8, low_mins);
    put32(record + 12, high);
  } else if constexpr (f.scales == ScaleKind::kBytes16 || f.scales == ScaleKind::kOdd16) {
    constexpr int n_bytes = planes_of(format).scale_bytes;
    for (int i = 0; i < n_bytes; ++i) record[i] = s[i];
    pack_d<format>(b, d);
  } else if constexpr (f.scales == ScaleKind::kSix16) {
    GLIMPSE_NO_UNROLL
    for (int k = 0; k < 16; ++k) {
      const uint32_t low = k < 8 ? s[k] & 15u : static_cast<uint32_t>(s[k - 8]) >> 4;
      const uint32_t high = static_cast<uint32_t>(s[8 + k % 4]) >> (2 * (k / 4)) & 3u;
      record[k] = static_cast<uint8_t>(static_cast<int>(low | high << 4) - 32);
    }
    pack_d<format>(b, d);
  } else if constexpr (f.scales == ScaleKind::kSix8Split) {
    pack_d<format>(b, record);
    put16(record + 2, u16_at(s));
    put32(record + 4, u32_at(s + 2));
  } else if constexpr (f.scales == ScaleKind::kOdd8) {
    pack_d<format>(b, record);
    put16(record + 2, 0);
    put32(record + 4, u32_at(s));
  }
}

}  // namespace pack

/// row_bytes of blocks at `from` (nullptr: a padding row of zeros); row: of the matrix; cell: columns 32 cell ...
template <Format format>
GLIMPSE_DEVICE void pack_cell(const uint8_t* from, int row, int cell, const WeightView& w, uint8_t* to) {
  constexpr Planes p = planes_of(format);
  constexpr int block_bytes = packed_block(format).bytes();
  const int row_tile = row / kTileRows, r = row % kTileRows, column_tile = cell / 4, t = cell % 4;
  const int64_t tile = tile_index(w, row_tile, column_tile);
  const bool inside = from != nullptr && cell * kCell < w.cols;
  if constexpr (!p.integer()) {
    constexpr int element = p.low_bits / 8, per_part = 16 / element;
    GLIMPSE_NO_UNROLL
    for (int part = 0; part < p.parts(); ++part) {
      uint8_t* out = to + low_offset<format>(tile, part, r, t);
      for (int i = 0; i < per_part; ++i) {
        const int column = cell * kCell + part * per_part + i;
        const bool there = from != nullptr && column < w.cols;
        for (int byte = 0; byte < element; ++byte) {
          out[i * element + byte] = there ? from[static_cast<int64_t>(column) * element + byte] : uint8_t{0};
        }
      }
    }
  } else {
    constexpr int block = p.super ? 256 : 32;
    const int first = cell * kCell % block;
    const uint8_t* b = inside ? from + static_cast<int64_t>(cell) * kCell / block * block_bytes : nullptr;
    constexpr uint32_t low_mask = (1u << p.low_bits) - 1;
    constexpr int per_word = 8 / p.low_bits;  // steps
    uint32_t high[2] = {0, 0};
    GLIMPSE_NO_UNROLL
    for (int word = 0; word < p.low_bytes() / 4; ++word) {
      uint32_t low = 0;
      for (int i = 0; i < per_word; ++i) {
        const int step = word * per_word + i;
        for (int byte = 0; byte < 4; ++byte) {
          const uint32_t code = inside ? pack::code_at<format>(b, first + 4 * step + byte) : 0u;
          low |= (code & low_mask) << (8 * byte + p.low_bits * i);
          if constexpr (p.high_bits == 1) high[0] |= (code >> p.low_bits & 1u) << (8 * byte + step);
          if constexpr (p.high_bits == 2) high[step / 4] |= (code >> p.low_bits & 3u) << (8 * byte + 2 * (step % 4));
        }
      }
      pack::put32(to + low_offset<format>(tile, word / 4, r, t) + word % 4 * 4, low);
    }
    for (int i = 0; i < p.high_bits; ++i) pack::put32(to + high_offset<format>(w, tile, r, t) + 4 * i, high[i]);
    if constexpr (p.super) {
      if (cell % 8 != 0) return;
      uint8_t* record = to + scales_offset<format>(w, row_tile, column_tile, r, t);
      uint8_t* d = to + d_offset<format>(w, row_tile, column_tile, r);
      if (inside) {
        pack::pack_super_scales<format>(b, record, d);
      } else {
        for (int i = 0; i < p.scale_bytes; ++i) record[i] = 0;
        for (int i = 0; i < p.d_bytes; ++i) d[i] = 0;
      }
    } else {
      uint8_t* record = to + scales_offset<format>(w, row_tile, column_tile, r, t);
      if (inside) {
        pack::pack_d<format>(b, record);
      } else {
        for (int i = 0; i < p.scale_bytes; ++i) record[i] = 0;
      }
    }
  }
}

}  // namespace glimpse::cuda
