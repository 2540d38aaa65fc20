// Reads cells (32 weights of one row) of every format: raw words into registers first, so that loads can run ahead,
// then integer codes for dp4a or floats for matrix fragments. Layout: weight_layout.h.
#pragma once

#include "kernels/cuda/weight_layout.h"

namespace glimpse::cuda {

/// What a lane loads of a cell: for the 16 and 32-bit formats one part of it, for the others all of it.
template <Format format>
struct RawCell {
  static constexpr Planes kPlanes = planes_of(format);
  static constexpr int kParts = kPlanes.integer() ? 1 : kPlanes.parts();  // loads per cell
  static constexpr int kSteps = 8 / kParts;                               // steps of 4 columns that one load covers
  static constexpr int kLowWords = kPlanes.integer() ? kPlanes.low_bytes() / 4 : 4;
  static constexpr int kHighWords = kPlanes.high_bits == 0 ? 1 : kPlanes.high_bits;
  uint32_t low[kLowWords];
  uint32_t high[kHighWords];
  uint32_t scales[4];
  uint32_t d;
};

template <bool stream>
GLIMPSE_DEVICE void load_words(const uint8_t* from, uint32_t* to, int n) {
  // n is a constant after inlining: 1, 2, 4 or 8.
  if (n == 1) {
    to[0] = *reinterpret_cast<const uint32_t*>(from);
  } else if (n == 2) {
    const Vec8 v = *reinterpret_cast<const Vec8*>(from);
    to[0] = v.w[0], to[1] = v.w[1];
  } else {
    const auto* at = reinterpret_cast<const Vec16*>(from);
    const Vec16 v = stream ? load_stream(at) : *at;
    GLIMPSE_UNROLL
    for (int i = 0; i < 4; ++i) to[i] = v.w[i];
  }
}

/// A little-endian number of so many bytes, 1, 2 or 4.
template <int n_bytes>
GLIMPSE_DEVICE uint32_t load_number(const uint8_t* from) {
  if constexpr (n_bytes == 1) return *from;
  if constexpr (n_bytes == 2) return *reinterpret_cast<const uint16_t*>(from);
  return *reinterpret_cast<const uint32_t*>(from);
}

/// Loads cell (row, t) of a tile. stream: the weights are read by nobody else on this multiprocessor.
template <Format format, bool stream>
GLIMPSE_DEVICE void load_cell(const WeightView& w, int row_tile, int column_tile, int part, int row, int t,
                              RawCell<format>& raw) {
  constexpr Planes p = planes_of(format);
  const int64_t tile = tile_index(w, row_tile, column_tile);
  load_words<stream>(w.data + low_offset<format>(tile, part, row, t), raw.low, RawCell<format>::kLowWords < 4 ? 2 : 4);
  if constexpr (RawCell<format>::kLowWords == 8) {
    load_words<stream>(w.data + low_offset<format>(tile, 1, row, t), raw.low + 4, 4);
  }
  if constexpr (p.high_bits > 0) {
    load_words<false>(w.data + high_offset<format>(w, tile, row, t), raw.high, p.high_bits);
  }
  if constexpr (p.integer()) {
    const uint8_t* record = w.data + scales_offset<format>(w, row_tile, column_tile, row, t);
    const int k = column_tile % 2 * 4 + t;  // the cell in its super-block
    if constexpr (!p.super) {
      raw.d = load_number<p.scale_bytes>(record);
    } else if constexpr (p.d_bytes > 0) {
      raw.scales[0] = load_number<p.cell_scale_bytes()>(record + p.cell_scale_bytes() * k);
      raw.d = load_number<p.d_bytes>(w.data + d_offset<format>(w, row_tile, column_tile, row));
    } else {
      load_words<false>(record, raw.scales, p.scale_bytes / 4);
    }
  }
}

/// A lane's cell of every kStep-th column tile of a row tile, kStep being 1 or even: pointers that move on by
/// constants, but for those to records of super-blocks, which two tiles share.
template <Format format, int kStep>
struct CellWalk {
  static constexpr Planes kPlanes = planes_of(format);
  static_assert(kStep == 1 || kStep % 2 == 0);
  const uint8_t *low, *high, *scales, *d;

  GLIMPSE_DEVICE void start(const WeightView& w, int row_tile, int column_tile, int row, int t) {
    const int64_t tile = tile_index(w, row_tile, column_tile);
    low = w.data + low_offset<format>(tile, 0, row, t);
    if constexpr (!kPlanes.integer()) return;
    if constexpr (kPlanes.high_bits > 0) high = w.data + high_offset<format>(w, tile, row, t);
    scales = w.data + scales_offset<format>(w, row_tile, column_tile, row, t);
    if constexpr (kPlanes.super && kPlanes.d_bytes > 0) {
      scales += kPlanes.cell_scale_bytes() * (column_tile % 2 * 4 + t);
      d = w.data + d_offset<format>(w, row_tile, column_tile, row);
    }
  }
  /// From column tile `from` on to the next.
  GLIMPSE_DEVICE void next(int from) {
    low += kStep * kCellsPerTile * kPlanes.low_bytes();
    if constexpr (!kPlanes.integer()) return;
    if constexpr (kPlanes.high_bits > 0) high += kStep * kCellsPerTile * kPlanes.high_bytes();
    if constexpr (!kPlanes.super) {
      scales += kStep * kCellsPerTile * kPlanes.scale_bytes;
    } else {
      const bool other_record = kStep > 1 || from % 2 != 0;
      constexpr int records = (kStep + 1) / 2 * kTileRows;
      constexpr int in_record = kStep == 1 && kPlanes.d_bytes > 0 ? 4 * kPlanes.cell_scale_bytes() : 0;
      scales += other_record ? records * kPlanes.scale_bytes - in_record : in_record;
      if constexpr (kPlanes.d_bytes > 0) d += other_record ? records * kPlanes.d_bytes : 0;
    }
  }
  /// n column tiles on in the order of the planes, in which the last of a row tile is followed by the first of the
  /// next. Of super-blocks: n is even.
  GLIMPSE_DEVICE void move(int64_t n) {
    low += n * (kCellsPerTile * kPlanes.low_bytes());
    if constexpr (!kPlanes.integer()) return;
    if constexpr (kPlanes.high_bits > 0) high += n * (kCellsPerTile * kPlanes.high_bytes());
    if constexpr (!kPlanes.super) {
      scales += n * (kCellsPerTile * kPlanes.scale_bytes);
    } else {
      scales += n / 2 * (kTileRows * kPlanes.scale_bytes);
      if constexpr (kPlanes.d_bytes > 0) d += n / 2 * (kTileRows * kPlanes.d_bytes);
    }
  }
  /// part: of a cell of a float format.
  template <bool stream>
  GLIMPSE_DEVICE void load(int part, RawCell<format>& raw) const {
    if constexpr (!kPlanes.integer()) {
      load_words<stream>(low + part * kCellsPerTile * 16, raw.low, 4);
      return;
    }
    load_ahead<stream, 0>(raw);
  }
  /// That n steps ahead; of integer formats, n = 0 or an even kStep.
  template <bool stream, int n>
  GLIMPSE_DEVICE void load_ahead(RawCell<format>& raw) const {
    constexpr int cells = n * kStep * kCellsPerTile, records = n * kStep / 2 * kTileRows;
    const uint8_t* const from = low + cells * kPlanes.low_bytes();
    load_words<stream>(from, raw.low, RawCell<format>::kLowWords < 4 ? 2 : 4);
    if constexpr (RawCell<format>::kLowWords == 8) load_words<stream>(from + kCellsPerTile * 16, raw.low + 4, 4);
    if constexpr (kPlanes.high_bits > 0) {
      load_words<false>(high + cells * kPlanes.high_bytes(), raw.high, kPlanes.high_bits);
    }
    if constexpr (!kPlanes.super) {
      raw.d = load_number<kPlanes.scale_bytes>(scales + cells * kPlanes.scale_bytes);
    } else if constexpr (kPlanes.d_bytes > 0) {
      raw.scales[0] = load_number<kPlanes.cell_scale_bytes()>(scales + records * kPlanes.scale_bytes);
      raw.d = load_number<kPlanes.d_bytes>(d + records * kPlanes.d_bytes);
    } else {
      load_words<false>(scales + records * kPlanes.scale_bytes, raw.scales, kPlanes.scale_bytes / 4);
    }
  }
};

/// weight = scale[u] * value + float(min[u]) * minus, u: which half of the cell (formats with one scale per cell: both
/// are the same).
struct CellScales {
  float scale[2];
  int min[2];
  float minus;
};

/// d of a block, from its stored bits.
template <Format format>
GLIMPSE_DEVICE float block_d(uint32_t bits) {
  constexpr BlockFormat f = block_format(format);
  if constexpr (f.d_type == ScaleType::kPower) {
    // 2^(e - 128); below 2^-126 the bits of the fraction take over.
    return bits_to_float(bits < 2 ? 0x00200000u << bits : (bits - 1) << 23);
  }
  const float d = half_bits_to_float(bits);
  return f.d_shift == 0 ? d : d * (1.0f / static_cast<float>(1 << f.d_shift));
}

/// The integer that multiplies d, of half u of a cell. bits: the cell's scales.
template <Format format>
GLIMPSE_DEVICE int half_scale(uint32_t bits, int u) {
  constexpr ScaleKind kind = block_format(format).scales;
  if constexpr (planes_of(format).shared) return static_cast<int>(2 * (bits >> (8 * u) & 7u) + 1);
  if constexpr (kind == ScaleKind::kOdd16) return static_cast<int>(2 * (bits >> (4 * u) & 15u) + 1);
  return static_cast<int8_t>(bits >> (8 * u) & 255u);
}

/// k: the cell in its super-block, 0..7.
template <Format format>
GLIMPSE_DEVICE CellScales cell_scales(const RawCell<format>& raw, int k) {
  constexpr Planes p = planes_of(format);
  constexpr ScaleKind kind = block_format(format).scales;
  CellScales s{{0, 0}, {0, 0}, 0};
  if constexpr (!p.integer()) {
    return s;
  } else if constexpr (!p.super) {
    s.scale[0] = s.scale[1] = block_d<format>(raw.d & 0xffffu);
    if constexpr (p.mins) {
      s.min[0] = s.min[1] = 1;
      s.minus = half_bits_to_float(raw.d >> 16);
    }
  } else if constexpr (kind == ScaleKind::kSix8) {
    const float d = half_bits_to_float(raw.scales[0] & 0xffffu);
    s.minus = -half_bits_to_float(raw.scales[0] >> 16);
    // Their two high bits, brought to bit 4 by one turn of the word.
    const uint32_t scale = (raw.scales[1] >> (4 * k) & 15u) | (rotate_right(raw.scales[3], 2 * k + 28) & 48u);
    const uint32_t min = (raw.scales[2] >> (4 * k) & 15u) | (rotate_right(raw.scales[3], 2 * k + 12) & 48u);
    s.scale[0] = s.scale[1] = d * static_cast<float>(static_cast<int>(scale));
    s.min[0] = s.min[1] = static_cast<int>(min);
  } else if constexpr (kind == ScaleKind::kSix8Split) {
    const float d = half_bits_to_float(raw.scales[0] & 0xffffu);
    const uint32_t scale = (raw.scales[1] >> (4 * k) & 15u) | (raw.scales[0] >> (16 + 2 * k) & 3u) << 4;
    s.scale[0] = s.scale[1] = d * static_cast<float>(static_cast<int>(scale) - 32);
  } else if constexpr (kind == ScaleKind::kOdd8) {
    const float d = block_d<format>(raw.scales[0] & 0xffffu);
    s.scale[0] = s.scale[1] = d * static_cast<float>(static_cast<int>(2 * (raw.scales[1] >> (4 * k) & 15u) + 1));
  } else if constexpr (p.mins) {
    const float d = half_bits_to_float(raw.d & 0xffffu);
    s.minus = -half_bits_to_float(raw.d >> 16);
    GLIMPSE_UNROLL
    for (int u = 0; u < 2; ++u) {
      const uint32_t byte = raw.scales[0] >> (8 * u) & 255u;
      s.scale[u] = d * static_cast<float>(static_cast<int>(byte & 15u));
      s.min[u] = static_cast<int>(byte >> 4);
    }
  } else if constexpr (p.d_bytes == 2) {
    const float d = block_d<format>(raw.d);
    GLIMPSE_UNROLL
    for (int u = 0; u < 2; ++u) s.scale[u] = d * static_cast<float>(half_scale<format>(raw.scales[0], u));
  }
  return s;
}

/// Values 4i .. 4i + 3 of a table as bytes, the first lowest.
GLIMPSE_HD constexpr uint32_t table_word(const CodeTable& table, int i) {
  uint32_t word = 0;
  for (int j = 0; j < 4; ++j) word |= static_cast<uint32_t>(static_cast<uint8_t>(table.value[4 * i + j])) << (8 * j);
  return word;
}
/// The values of four codes, one byte each: a byte permutation looks up four of eight at once.
template <Format format>
GLIMPSE_DEVICE uint32_t table_values(uint32_t codes) {
  constexpr Planes p = planes_of(format);
  constexpr CodeTable table = block_format(format).table;
  constexpr uint32_t w0 = table_word(table, 0), w1 = table_word(table, 1), w2 = table_word(table, 2),
                     w3 = table_word(table, 3);
  // Codes as nibbles: the first two are in byte 0 now, the others in byte 2.
  const uint32_t pairs = codes | codes >> 4, selector = select_bytes(pairs, 0, 0x4420);
  const uint32_t low = select_bytes(w0, w1, selector & 0x7777u);
  if constexpr (p.low_bits + p.high_bits + (p.shared ? 1 : 0) < 4) return low;
  const uint32_t high = select_bytes(w2, w3, selector & 0x7777u), is_high = (codes >> 3 & 0x01010101u) * 255u;
  return (low & ~is_high) | (high & is_high);
}

/// The word's bits n places up, or down where n is negative.
GLIMPSE_HD constexpr uint32_t shifted(uint32_t word, int n) {
  return n >= 0 ? word << n : word >> -n;
}
/// Four codes of step 0..7, one per byte: unsigned, or signed bytes where the format is_signed.
template <Format format>
GLIMPSE_DEVICE uint32_t cell_codes(const RawCell<format>& raw, int step) {
  constexpr Planes p = planes_of(format);
  constexpr int per_word = 8 / p.low_bits;
  constexpr uint32_t mask = 0x01010101u * ((1u << p.low_bits) - 1);
  uint32_t codes = raw.low[step / per_word] >> (p.low_bits * (step % per_word)) & mask;
  // High bits go where they belong by one shift.
  if constexpr (p.high_bits == 1) codes |= shifted(raw.high[0], p.low_bits - step) & 0x01010101u << p.low_bits;
  if constexpr (p.high_bits == 2) {
    codes |= shifted(raw.high[step / 4], p.low_bits - 2 * (step % 4)) & 0x03030303u << p.low_bits;
  }
  if constexpr (p.shared) codes |= (raw.scales[0] >> (8 * (step / 4) + 3 + step / 2 % 2) & 1u) * 0x04040404u;
  if constexpr (p.table) codes = table_values<format>(codes);
  return codes;
}

/// Four weights as floats. step: 0..7 of the cell for integer formats, 0..kSteps-1 of the part for the others.
template <Format format>
GLIMPSE_DEVICE void cell_floats(const RawCell<format>& raw, const CellScales& s, int step, float (&out)[4]) {
  constexpr Planes p = planes_of(format);
  if constexpr (format == Format::kF32) {
    GLIMPSE_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = bits_to_float(raw.low[i]);
  } else if constexpr (!p.integer()) {
    GLIMPSE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint32_t bits = raw.low[2 * step + i / 2] >> (16 * (i % 2)) & 0xffffu;
      out[i] = format == Format::kF16 ? half_bits_to_float(bits) : bf16_bits_to_float(bits);
    }
  } else {
    const uint32_t codes = cell_codes<format>(raw, step);
    const int u = step / 4;
    const float base = static_cast<float>(s.min[u]) * s.minus;
    GLIMPSE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint32_t byte = codes >> (8 * i) & 255u;
      const int value = p.is_signed ? static_cast<int>(static_cast<int8_t>(byte)) : static_cast<int>(byte) - p.offset;
      out[i] = fmaf(static_cast<float>(value), s.scale[u], base);
    }
  }
}

/// Four weights from their codes, u being the half of the cell, in fewer instructions than cell_floats() takes and with
/// one rounding more.
template <Format format>
GLIMPSE_DEVICE void integer_operand(uint32_t codes, const CellScales& s, int u, float (&w)[4]) {
  constexpr Planes p = planes_of(format);
  const float base = static_cast<float>(s.min[u]) * s.minus;
  if constexpr (p.low_bits + p.high_bits < 8 && !p.is_signed) {
    // scale * (code - offset) + base = 128 scale * ((code + 128) / 128) + (base - (128 + offset) scale)
    codes |= 0x80808080u;
    const float scale = 128.0f * s.scale[u], rest = fmaf(-(128.0f + static_cast<float>(p.offset)), s.scale[u], base);
    GLIMPSE_UNROLL
    for (int i = 0; i < 4; ++i) w[i] = fmaf(byte_over_128(codes, i), scale, rest);
  } else {
    if constexpr (p.is_signed) codes ^= 0x80808080u;
    constexpr float zero_code = 8388608.0f + static_cast<float>(p.is_signed ? 128 : p.offset);
    GLIMPSE_UNROLL
    for (int i = 0; i < 4; ++i) w[i] = fmaf(byte_over_2_23(codes, i) - zero_code, s.scale[u], base);
  }
}

/// Columns 4 * step .. 4 * step + 3 of a cell (of a part of it, for float formats) in bfloat16, as matrix products take
/// them: the lower two in `low`. Integer formats round once more than cell_floats() on the way, to floats. zero: 0,
/// which the compiler must not know where the operands are those of warpgroups: registers that a load writes while
/// products are under way must not be the operands themselves, or ptxas makes every product wait.
template <Format format>
GLIMPSE_DEVICE void cell_operand(const RawCell<format>& raw, const CellScales& s, int step, uint32_t zero,
                                 uint32_t& low, uint32_t& high) {
  constexpr Planes p = planes_of(format);
  if constexpr (format == Format::kBF16) {
    low = raw.low[2 * step] ^ zero;
    high = raw.low[2 * step + 1] ^ zero;
  } else {
    float w[4];
    if constexpr (!p.integer()) {
      cell_floats<format>(raw, s, step, w);
    } else {
      integer_operand<format>(cell_codes<format>(raw, step), s, step / 4, w);
    }
    low = pack_bf16(w[0], w[1]);
    high = pack_bf16(w[2], w[3]);
  }
}

}  // namespace glimpse::cuda
