// The loops of the integer formats, for every instruction set. An instruction set is a struct K:
//   V                                 Vec512 or Vec256
//   kSign, kRaised                    what codes it multiplies: see ByteSign; kRaised: scratch holds them with 128
//                                     added whatever the format's offset, so that formats of one shape share tiles
//   kTileColumns, kColumnBlock        columns of a tile; columns that pass over each expanded piece of weights, so that
//                                     their activations stay in the L2 cache while the panels stream by
//   kDirectColumns, kDirectTile       up to so many columns are multiplied straight from the packed panel, in tiles of
//                                     kDirectTile: beside the scales of a packed block there are registers for no more
//   dot<Source, n>(part, s, column, values_at, bias_at, sum)
//                                     sum[r][c] = the integer sum of the part's sub-block s in strip r and column c,
//                                     the offset taken off
//   dot_words(sum, a, b)              sum + products of two int16 pairs
// Included only by matmul_int_*.cpp; everything has internal linkage.
#pragma once

#include "kernels/matmul/act_view.h"
#include "kernels/matmul/matmul_unpack.h"
#include "kernels/matmul/panel_expanded.h"
#include "kernels/matmul/panel_layout.h"

namespace glimpse {
namespace {

/// Bytes in front of what it reads at which a GEMV asks for weights (bench/README.md has the table). From 4 to 16 KB
/// all is gain; with fewer a core has too few lines under way for its bandwidth.
constexpr int kPrefetchAhead = 8192;

constexpr int log2_of(int v) {
  return v <= 1 ? 0 : 1 + log2_of(v / 2);
}

/// Weights straight from a packed panel, which a pass reads once, from memory. The hardware does not run far
/// enough ahead of these loops, so that every vector that is read asks for the line kPrefetchAhead bytes on.
template <class K, PanelFormat format>
struct Packed {
  using V = typename K::V;
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr int kOffset = L.offset;
  static constexpr int kHalves = V::kHalves, kStrips = 1;
  static constexpr bool kUnrollSubs = true;
  static constexpr bool kWhole = kHalves == 1 && L.bytes > 3072;  // Q6_K: see tile()
  struct Part : Unpacker<format, V, K::kSign> {
    using Base = Unpacker<format, V, K::kSign>;
    int half;
    GLIMPSE_INLINE Part(const uint8_t* block, int which_half, int part)
        : Base(block, which_half, part), half(which_half) {
      if (part != 0) return;
#pragma GCC unroll 8
      for (int line = 0; line < (L.codes_at + 63) / 64; line += kHalves) ahead(block + 64 * (line + half));
    }
    GLIMPSE_INLINE typename V::F scale(int s, int) const {
      return Base::scale(s);
    }
    GLIMPSE_INLINE typename V::I min_pair(int t, int) const {
      return Base::min_pair(t);
    }
    GLIMPSE_INLINE typename V::F min_scale(int) const {
      return Base::min_scale;
    }
    GLIMPSE_INLINE typename V::I codes(int g, int) const {
      constexpr int low_groups = 8 / L.low_bits;
      if constexpr (L.high_bits != 0) {
        constexpr int high_groups = 8 / L.high_bits;
        if (g % high_groups == 0) code_ahead(L.high_at(g / high_groups));
      }
      if (g % low_groups == 0) code_ahead(L.low_at(g / low_groups));
      return Base::codes(g);
    }
    /// With halves, each asks for every other line.
    GLIMPSE_INLINE void code_ahead(int at) const {
      if ((at - L.codes_at) / 64 % kHalves == 0) ahead(this->part_codes + 32 * half + at);
    }
    static GLIMPSE_INLINE void ahead(const uint8_t* at) {
      // Not __builtin_prefetch: gcc moves those of a whole part to its start, more than a core can have under way.
      asm volatile("prefetcht0 %0" ::"m"(*(at + kPrefetchAhead)));
    }
  };
  const uint8_t* panel;
  GLIMPSE_INLINE Part part(int64_t b, int part, int half) const {
    return Part(panel + b * L.bytes, half, part);
  }
};

/// Weights in scratch: two strips of V::kLanes rows side by side, which are two panels or the halves of one, so that
/// each value of a column is read once for both. format: any of the same shape (block, sub-block, kind of min) if codes
/// are raised.
template <class K, PanelFormat format>
struct Expanded {
  using V = typename K::V;
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr int kOffset = K::kRaised ? 128 : L.offset;
  static constexpr int kHalves = 1, kStrips = kExpandedStrips;
  static constexpr int kRows = kStrips * V::kLanes, kRowBytes = 4 * kRows;
  static constexpr bool kUnrollSubs = false, kWhole = false;
  struct Part {
    const std::byte* code_bytes;
    const std::byte* scales;
    const std::byte* pairs;
    const std::byte* min_scales;
    GLIMPSE_INLINE typename V::I codes(int g, int strip) const {
      typename V::I v = V::load(code_bytes + at(g, strip));
      asm("" : "+v"(v));  // or gcc, short of registers, loads it anew for every column
      return v;
    }
    GLIMPSE_INLINE typename V::F scale(int s, int strip) const { return V::load_f(scales + at(s, strip)); }
    GLIMPSE_INLINE typename V::I min_pair(int t, int strip) const { return V::load(pairs + at(t, strip)); }
    GLIMPSE_INLINE typename V::F min_scale(int strip) const { return V::load_f(min_scales + at(0, strip)); }
    static GLIMPSE_INLINE int at(int i, int strip) { return kRowBytes * i + 4 * V::kLanes * strip; }
  };
  const std::byte* scratch;
  ExpandedPanel at;
  GLIMPSE_INLINE Part part(int64_t b, int part, int) const {
    constexpr int parts = act_parts(L), groups = L.block / 4 / parts, subs = L.subs() / parts;
    const int64_t i = b * parts + part;
    return {scratch + i * groups * kRowBytes, scratch + at.scales_at + i * subs * kRowBytes,
            scratch + at.min_pairs_at + i * (subs / 2) * kRowBytes, scratch + at.min_scale_at + b * kRowBytes};
  }
};

/// Two strips as they lie in their panels: 8-bit codes need no unpacking, and scratch would only be a copy of them.
template <class K, PanelFormat format>
struct InPlace {
  using V = typename K::V;
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr bool kPossible = L.own;  // which has one part to a block
  static constexpr int kOffset = L.offset;
  static constexpr int kHalves = 1, kStrips = kExpandedStrips;
  static constexpr bool kUnrollSubs = false, kWhole = false;
  struct Part {
    Unpacker<format, V, K::kSign> strip[kStrips];
    GLIMPSE_INLINE typename V::I codes(int g, int r) const {
      typename V::I v = strip[r].codes(g);
      asm("" : "+v"(v));  // as in Expanded
      return v;
    }
    GLIMPSE_INLINE typename V::F scale(int s, int r) const { return strip[r].scale(s); }
    GLIMPSE_INLINE typename V::F min_scale(int) const { return V::zero_f(); }
  };
  const uint8_t* panel[kStrips];
  GLIMPSE_INLINE Part part(int64_t b, int, int) const {
    return {{{panel[0] + b * L.bytes, 0, 0}, {panel[1] + b * L.bytes, V::kHalves - 1, 0}}};
  }
};

/// Blocks [begin, end) of the reduction; past 0, the totals so far lie in the output.
struct BlockRange {
  int64_t begin, end;
};

/// Where a tile's columns come from and its outputs go.
struct TileColumns {
  const ActView& act;
  int64_t first, count;  // columns; a tile that is wider computes the last one again
  float* out;            // of row 0 of the tile, column 0 of the activations
  int64_t ld_out;
  int64_t strip_rows;  // from a strip's outputs to the next one's; 0 where both are the same panel
};

/// n columns of activations.
template <int n>
struct ColumnRecords {
  const std::byte* at[n];
  int64_t bias_base, sums_base, bias32_at, scales_at;
};

/// blk = what the minima add to a part. bias32_at, sums_at: of the part's biases and sums of activations.
template <class K, class Source, int n>
GLIMPSE_INLINE void start_part(const typename Source::Part& w, const ColumnRecords<n>& column, int64_t bias32_at,
                               int64_t sums_at, typename K::V::F (&blk)[Source::kStrips][n]) {
  using V = typename K::V;
  using I = typename V::I;
  constexpr PanelLayout L = Source::L;
  constexpr int strips = Source::kStrips;
  if constexpr (L.mins == MinKind::kPairs) {
    constexpr int pairs_of_part = L.subs() / act_parts(L) / 2;
    I pairs[strips][n];
#pragma GCC unroll 8
    for (int t = 0; t < pairs_of_part; ++t) {
      I mins[strips];
#pragma GCC unroll 2
      for (int r = 0; r < strips; ++r) mins[r] = w.min_pair(t, r);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const I sums = V::broadcast32(column.at[c] + sums_at + 4 * t);
#pragma GCC unroll 2
        for (int r = 0; r < strips; ++r) {
          pairs[r][c] = K::dot_words(t == 0 ? V::zero() : pairs[r][c], mins[r], sums);
        }
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < strips; ++r) {
      const typename V::F scale = w.min_scale(r);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) blk[r][c] = V::mul(V::to_float(pairs[r][c]), scale);
    }
  } else {
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
#pragma GCC unroll 2
      for (int r = 0; r < strips; ++r) {
        blk[r][c] = L.mins == MinKind::kNone
                        ? V::zero_f()
                        : V::mul(V::to_float(V::broadcast32(column.at[c] + bias32_at)), w.min_scale(r));
      }
    }
  }
}

/// Part i of the source's strips x n columns: total = fma(blk, activation scale, total).
template <class K, class Source, int n>
GLIMPSE_INLINE void add_part(const typename Source::Part& w, int64_t i, const ColumnRecords<n>& column,
                             typename K::V::F (&total)[Source::kStrips][n]) {
  using V = typename K::V;
  using I = typename V::I;
  using F = typename V::F;
  constexpr PanelLayout L = Source::L;
  constexpr int parts = act_parts(L), subs = L.subs() / parts, strips = Source::kStrips;
  int64_t values_at = i * (L.block / parts), bias_at = column.bias_base + i * subs * 4;
  int64_t sums_at = column.sums_base + i * subs * 2, scales_at = column.scales_at + i * 4;
  if constexpr (Source::kHalves > 1) {  // one register each, and constants; not an address for every operand
    asm("" : "+r"(values_at));
    asm("" : "+r"(bias_at));
    asm("" : "+r"(sums_at));
    asm("" : "+r"(scales_at));
  }
  F blk[strips][n];
  start_part<K, Source, n>(w, column, column.bias32_at + i * 4, sums_at, blk);
  const auto sub_block = [&](int s) GLIMPSE_INLINE_LAMBDA {
    I sum[strips][n];
    K::template dot<Source, n>(w, s, column.at, values_at + s * L.sub, bias_at + 4 * s, sum);
#pragma GCC unroll 2
    for (int r = 0; r < strips; ++r) {
      const F scale = w.scale(s, r);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) blk[r][c] = V::fma(V::to_float(sum[r][c]), scale, blk[r][c]);
    }
  };
  if constexpr (Source::kUnrollSubs) {
#pragma GCC unroll 8
    for (int s = 0; s < subs; ++s) sub_block(s);
  } else {
    for (int s = 0; s < subs; ++s) sub_block(s);
  }
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
    const F scale = V::broadcast_f(column.at[c] + scales_at);
#pragma GCC unroll 2
    for (int r = 0; r < strips; ++r) total[r][c] = V::fma(blk[r][c], scale, total[r][c]);
  }
}

/// All rows of the source x n columns, the whole reduction. The order of README.md. Both halves of a packed part are
/// read before the next one, while it is in the L1 cache. The code is that of a part, not of a block: where each load
/// comes again 2 to 4 KB further on, once a block, Zen 5 reads up to a fifth more slowly from memory, whatever is asked
/// for ahead (bench/README.md, "One instruction, one stride"); from part to part the distances change. Q6_K, whose
/// blocks are longer and begin between lines, is the exception: with one or two columns whole blocks are faster.
template <class K, class Source, int n>
__attribute__((noinline)) void tile(const Source& weights, const BlockRange& range, const TileColumns& columns) {
  using V = typename K::V;
  using F = typename V::F;
  constexpr PanelLayout L = Source::L;
  constexpr int halves = Source::kHalves, strips = Source::kStrips;
  const Source source = weights;
  const ActView& act = columns.act;
  ColumnRecords<n> column{{},
                          L.sub == 32 ? act.bias32_at : act.bias16_at,
                          L.sub == 32 ? act.sums32_at : act.sums16_at,
                          act.bias32_at,
                          act.scales_at};
  F total[halves][strips][n];
  const auto each_total = [&](auto&& body) GLIMPSE_INLINE_LAMBDA {
    float* out = columns.out + columns.first * columns.ld_out;
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
#pragma GCC unroll 2
      for (int h = 0; h < halves; ++h) {
#pragma GCC unroll 2
        for (int r = 0; r < strips; ++r) body(total[h][r][c], out + h * V::kLanes + r * columns.strip_rows);
      }
      out += c + 1 < columns.count ? columns.ld_out : 0;
    }
  };
  const bool resume = range.begin != 0;
  each_total([&](F& sum, const float* at) GLIMPSE_INLINE_LAMBDA { sum = resume ? V::load_f(at) : V::zero_f(); });
  column.at[0] = act.data + columns.first * act.row_bytes;
#pragma GCC unroll 8
  for (int c = 1; c < n; ++c) column.at[c] = column.at[c - 1] + (c < columns.count ? act.row_bytes : 0);
  constexpr int parts = act_parts(L);
  const auto part = [&](int64_t b, int p) GLIMPSE_INLINE_LAMBDA {
    if constexpr (halves == 1 || L.block <= 32) {  // short: the totals stay in registers
#pragma GCC unroll 2
      for (int h = 0; h < halves; ++h) {
        add_part<K, Source, n>(source.part(b - range.begin, p, h), b * parts + p, column, total[h]);
      }
    } else {
      for (int h = 0; h < halves; ++h) {
        asm("" : "+r"(h));  // or gcc unrolls, keeps all of a part's activations for the second half, and spills them
        add_part<K, Source, n>(source.part(b - range.begin, p, h), b * parts + p, column, total[h]);
      }
    }
  };
  for (int64_t b = range.begin; b < range.end; ++b) {
    if constexpr (parts == 1 || (Source::kWhole && n <= 2)) {
#pragma GCC unroll 2
      for (int p = 0; p < parts; ++p) part(b, p);
    } else {
      for (int p = 0; p < parts; ++p) {
        asm("" : "+r"(p));  // not unrolled
        part(b, p);
      }
    }
  }
  asm volatile("" ::: "memory");  // or the addresses are kept in registers that the loop wants
  each_total([](F sum, float* at) GLIMPSE_INLINE_LAMBDA { V::store_f(at, sum); });
}

/// Columns [columns.first, end) from a packed panel in tiles of `width`, of 4, 2 and 1; 3 as 4, so that fewer tiles are
/// compiled.
template <class K, class Source, int width>
GLIMPSE_INLINE void direct_columns(const Source& source, const BlockRange& range, TileColumns columns, int64_t end) {
  constexpr int fewest = width == 4 ? 3 : width;
  for (; end - columns.first >= fewest; columns.first += width) {
    columns.count = end - columns.first < width ? end - columns.first : width;
    tile<K, Source, width>(source, range, columns);
  }
  if constexpr (width > 1) {
    if (columns.first < end) direct_columns<K, Source, width / 2>(source, range, columns, end);
  }
}

/// Where a walk over pieces of weights is: `panels` of n_panels from `panel` on, a range of n_blocks blocks.
struct Piece {
  int64_t panel, panels, n_panels;
  BlockRange range;
  int64_t n_blocks;
  bool last_columns;  // no other columns of activations follow
};

/// Weights that will be expanded next: the walk's next piece, or the beginning of what lies behind its panels. Tiles
/// ask for their lines one after the other: nothing else would, and the memory has nothing to do while tiles run from
/// the caches.
struct NextWeights {
  const uint8_t* panel;
  uint64_t panel_stride;
  int64_t panels;
  int64_t bytes;  // of each panel

  GLIMPSE_INLINE NextWeights(const uint8_t* first_panel, uint64_t stride, const PanelLayout& layout, const Piece& at)
      : panel_stride(stride), panels(at.panels), bytes((at.range.end - at.range.begin) * layout.bytes) {
    const bool more_panels = at.panel + at.panels < at.n_panels, more_blocks = at.range.end < at.n_blocks;
    const int64_t next_block = more_panels ? at.range.begin : more_blocks ? at.range.end : 0;
    const int64_t next_panel = more_panels ? at.panel + at.panels : more_blocks || !at.last_columns ? 0 : at.n_panels;
    panel = first_panel + static_cast<uint64_t>(next_panel) * stride + next_block * layout.bytes;
  }

  /// Part i of n.
  GLIMPSE_INLINE void prefetch(int64_t i, int64_t n) const {
    const int64_t lines = (bytes + 63) / 64;
    for (int64_t p = 0; p < panels; ++p) {
      for (int64_t line = lines * i / n; line < lines * (i + 1) / n; ++line) {
        __builtin_prefetch(panel + static_cast<uint64_t>(p) * panel_stride + 64 * line, 0, 2);
      }
    }
  }
};

/// Columns [columns.first, end) from expanded weights in tiles of `width`; what is left as a tile of that width or of
/// half.
template <class K, class Source, int width>
GLIMPSE_INLINE void expanded_columns(const Source& source, const BlockRange& range, TileColumns columns, int64_t end,
                                     const NextWeights& next) {
  const int64_t n_tiles = (end - columns.first + width - 1) / width;
  for (int64_t i = 0; i < n_tiles; ++i, columns.first += width) {
    next.prefetch(i, n_tiles);
    columns.count = end - columns.first < width ? end - columns.first : width;
    if (columns.count > width / 2) {
      tile<K, Source, width>(source, range, columns);
    } else {
      tile<K, Source, width / 2>(source, range, columns);
    }
  }
}

/// Writes the codes (offset 128 where they are raised), scales and mins of a panel's V::kLanes rows of `half` to a
/// strip of scratch.
template <class K, PanelFormat format>
void expand(const uint8_t* panel, int half, int64_t n_blocks, const ExpandedPanel& at, std::byte* strip) {
  using V = typename K::V;
  constexpr PanelLayout L = panel_layout(format);
  constexpr int parts = act_parts(L), groups = L.block / 4 / parts, subs = L.subs() / parts;
  constexpr int row_bytes = Expanded<K, format>::kRowBytes;
  constexpr bool raises = K::kRaised && L.is_signed() && L.offset != 128;
  const typename V::I raise = V::set8(raises ? 128 - L.offset : 0);
  for (int i = 0; i < n_blocks * parts; ++i) {
    const Unpacker<format, V, K::kSign> w(panel + i / parts * L.bytes, half, i % parts);
    std::byte* codes = strip + i * groups * row_bytes;
#pragma GCC unroll 32
    for (int g = 0; g < groups; ++g) {
      const typename V::I v = w.codes(g);
      V::store(codes + row_bytes * g, raises ? V::add8(v, raise) : v);
    }
    std::byte* scales = strip + at.scales_at + i * subs * row_bytes;
#pragma GCC unroll 8
    for (int s = 0; s < subs; ++s) V::store_f(scales + row_bytes * s, w.scale(s));
    if constexpr (L.mins == MinKind::kPairs) {
      std::byte* pairs = strip + at.min_pairs_at + i * (subs / 2) * row_bytes;
#pragma GCC unroll 4
      for (int t = 0; t < subs / 2; ++t) V::store(pairs + row_bytes * t, w.min_pair(t));
    }
    if constexpr (L.mins != MinKind::kNone) V::store_f(strip + at.min_scale_at + i / parts * row_bytes, w.min_scale);
  }
}

/// The format whose Expanded tiles this one shares: the first of the same block, sub-block and kind of min, and of the
/// same codes unless those are raised.
template <class K>
constexpr PanelFormat tile_format(PanelFormat format) {
  const PanelLayout l = panel_layout(format);
  for (const BlockFormat& f : kBlockFormats) {
    const PanelLayout other = panel_layout(f.info.type);
    const bool same_shape = other.block == l.block && other.sub == l.sub && other.mins == l.mins;
    const bool same_codes =
        other.offset == l.offset && (l.offset == 128 || other.low_bits + other.high_bits == l.low_bits + l.high_bits);
    if (same_shape && (K::kRaised || same_codes)) return f.info.type;
  }
  return format;
}

/// Few columns: straight from the packed panels.
template <class K, PanelFormat format>
GLIMPSE_INLINE void run_direct(const uint8_t* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                               float* out, int64_t ld_out) {
  constexpr int block = panel_layout(format).block;
  const int64_t n_blocks = (act.k + block - 1) / block;
  for (int64_t p = 0; p < n_panels; ++p) {
    const Packed<K, format> source{panels + static_cast<uint64_t>(p) * panel_stride};
    direct_columns<K, Packed<K, format>, K::kDirectTile>(source, {0, n_blocks}, {act, 0, 0, out + 16 * p, ld_out, 0},
                                                         act.n);
  }
}

/// Many columns: pieces of a panel, or of two, are expanded once where their format is not one that tiles read, then
/// all columns run over them.
template <class K, PanelFormat format>
GLIMPSE_INLINE void run_expanded(const uint8_t* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                                 float* out, int64_t ld_out, std::byte* scratch) {
  using V = typename K::V;
  using Source = Expanded<K, tile_format<K>(format)>;
  constexpr PanelLayout L = panel_layout(format);
  constexpr int together = kExpandedStrips / V::kHalves;  // panels
  constexpr int64_t chunk = kIntegerChunk / together / L.block;
  const int64_t n_blocks = (act.k + L.block - 1) / L.block;
  const ExpandedPanel at = expanded_panel(L, (n_blocks < chunk ? n_blocks : chunk) * L.block, Source::kRows);
  for (int64_t begin = 0; begin < act.n; begin += K::kColumnBlock) {
    const int64_t end = begin + K::kColumnBlock < act.n ? begin + K::kColumnBlock : act.n;
    for (int64_t first = 0; first < n_blocks; first += chunk) {
      const BlockRange range{first, first + chunk < n_blocks ? first + chunk : n_blocks};
      for (int64_t p = 0; p < n_panels; p += together) {
        const bool alone = p + together > n_panels;  // both strips are the last panel
        const auto piece = [&](int strip) GLIMPSE_INLINE_LAMBDA {
          const int64_t which = alone ? p : p + strip / V::kHalves;
          return panels + static_cast<uint64_t>(which) * panel_stride + first * L.bytes;
        };
        const TileColumns columns{act, begin, 0, out + 16 * p, ld_out, alone ? 0 : V::kLanes};
        const NextWeights next(panels, panel_stride, L, {p, together, n_panels, range, n_blocks, end == act.n});
        if constexpr (InPlace<K, format>::kPossible) {
          const InPlace<K, format> source{{piece(0), piece(1)}};
          expanded_columns<K, InPlace<K, format>, K::kTileColumns>(source, range, columns, end, next);
        } else {
          for (int strip = 0; strip < kExpandedStrips; ++strip) {
            expand<K, format>(piece(strip), strip % V::kHalves, range.end - first, at, scratch + 4 * V::kLanes * strip);
          }
          expanded_columns<K, Source, K::kTileColumns>(Source{scratch, at}, range, columns, end, next);
        }
      }
    }
  }
}

}  // namespace
}  // namespace glimpse
