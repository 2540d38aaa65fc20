// The loops of the integer formats, for every instruction set. An instruction set is a struct K:
//   V                                 Vec512 or Vec256
//   kSign, kRaised                    what codes it multiplies: see ByteSign; kRaised: scratch holds them with an
//   offset
//                                     of 128 whatever the format's, so that formats of one shape share their tiles
//   kTileColumns, kColumnBlock        columns of a tile; columns that pass over each expanded piece of a panel, so that
//                                     their activations stay in the L2 cache while the panels stream by
//   kDirectColumns, kDirectTile       up to so many columns are multiplied straight from the packed panel, in tiles of
//                                     kDirectTile: beside the scales of a packed block there are registers for no more
//   dot<Source, n>(block, s, column, values_at, bias_at, sum)
//                                     sum[c] = the integer sum of sub-block s in column c, the offset taken off
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
  static constexpr int kHalves = V::kHalves;
  static constexpr bool kUnrollSubs = true;
  struct Block : Unpacker<format, V, K::kSign> {
    using Base = Unpacker<format, V, K::kSign>;
    GLIMPSE_INLINE Block(const uint8_t* at, int which_half) : Base(at, which_half) {
#pragma GCC unroll 8
      for (int line = 0; line < (L.codes_at + 63) / 64; line += kHalves) prefetch(64 * line);
    }
    GLIMPSE_INLINE typename V::I codes(int g) const {
      constexpr int low_groups = 8 / L.low_bits;
      if constexpr (L.high_bits != 0) {
        constexpr int high_groups = 8 / L.high_bits;
        if (g % high_groups == 0) ahead(L.high_at(g / high_groups));
      }
      if (g % low_groups == 0) ahead(L.low_at(g / low_groups));
      return Base::codes(g);
    }
    /// With halves, each asks for every other line.
    GLIMPSE_INLINE void ahead(int at) const {
      if ((at - L.codes_at) / 64 % kHalves == 0) prefetch(at);
    }
    GLIMPSE_INLINE void prefetch(int at) const {
      // Not __builtin_prefetch: gcc moves those of a whole block to its start, more than a core can have under way.
      asm volatile("prefetcht0 %0" ::"m"(*(this->block + at + 32 * this->half + kPrefetchAhead)));
    }
  };
  const uint8_t* panel;
  GLIMPSE_INLINE Block block(int64_t b, int half) const {
    return Block(panel + b * L.bytes, half);
  }
};

/// Half of the weights in scratch. format: any of the same shape (block, sub-block, kind of min) if codes are raised.
template <class K, PanelFormat format>
struct Expanded {
  using V = typename K::V;
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr int kOffset = K::kRaised ? 128 : L.offset;
  static constexpr int kHalves = 1;
  static constexpr bool kUnrollSubs = false;
  struct Block {
    const std::byte* code_bytes;
    const std::byte* scales;
    const std::byte* pairs;
    typename V::F min_scale;
    GLIMPSE_INLINE typename V::I codes(int g) const { return V::load(code_bytes + 64 * g); }
    GLIMPSE_INLINE typename V::F scale(int s) const { return V::load_f(scales + 64 * s); }
    GLIMPSE_INLINE typename V::I min_pair(int t) const { return V::load(pairs + 64 * t); }
  };
  const std::byte* scratch;  // moved to the half
  ExpandedPanel at;
  GLIMPSE_INLINE Block block(int64_t b, int) const {
    Block block{scratch + b * L.block * 16,
                scratch + at.scales_at + b * L.subs() * 64,
                scratch + at.min_pairs_at + b * (L.subs() / 2) * 64,
                {}};
    if constexpr (L.mins != MinKind::kNone) block.min_scale = V::load_f(scratch + at.min_scale_at + b * 64);
    return block;
  }
};

/// A number as a type.
template <int n>
struct Number {
  static constexpr int value = n;
};

/// Blocks [begin, end) of the reduction; past 0, the totals so far lie in the output.
struct BlockRange {
  int64_t begin, end;
};

/// n columns of activations.
template <int n>
struct TileColumns {
  const std::byte* at[n];
  int64_t bias_base, sums_base, bias32_at, scales_at;
};

struct SubRange {
  int begin, end;
};

/// blk[c] = what the minima of sub-blocks [subs.begin, subs.end) add to block b. sums_at: of the block's sums of
/// activations.
template <class K, class Source, int n>
GLIMPSE_INLINE void start_part(const typename Source::Block& w, int64_t b, const SubRange& subs,
                               const TileColumns<n>& column, int64_t sums_at, typename K::V::F* blk) {
  using V = typename K::V;
  using I = typename V::I;
  constexpr PanelLayout L = Source::L;
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) blk[c] = V::zero_f();
  if constexpr (L.mins == MinKind::kPairs) {
    I pairs[n];
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) pairs[c] = V::zero();
#pragma GCC unroll 8
    for (int t = subs.begin / 2; t < subs.end / 2; ++t) {
      const I mins = w.min_pair(t);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const I sums = V::broadcast32(column.at[c] + sums_at + 4 * t);
        pairs[c] = K::dot_words(pairs[c], mins, sums);
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) blk[c] = V::mul(V::to_float(pairs[c]), w.min_scale);
  } else if constexpr (L.mins == MinKind::kBlock) {
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
      blk[c] = V::mul(V::to_float(V::broadcast32(column.at[c] + column.bias32_at + b * 4)), w.min_scale);
    }
  }
}

/// One block of 16 or 8 rows x n columns: total[c] = fma(blk, activation scale, total[c]) for each part.
template <class K, class Source, int n>
GLIMPSE_INLINE void add_block(const typename Source::Block& w, int64_t b, const TileColumns<n>& column,
                              typename K::V::F* total) {
  using V = typename K::V;
  using I = typename V::I;
  using F = typename V::F;
  constexpr PanelLayout L = Source::L;
  constexpr int subs = L.subs(), parts = act_parts(L);
  int64_t values_at = b * L.block, bias_at = column.bias_base + b * subs * 4, sums_at = column.sums_base + b * subs * 2;
  int64_t scales_at = column.scales_at + b * parts * 4;
  if constexpr (Source::kHalves > 1) {  // one register each, and constants; not an address for every operand
    asm("" : "+r"(values_at));
    asm("" : "+r"(bias_at));
    asm("" : "+r"(sums_at));
    asm("" : "+r"(scales_at));
  }
#pragma GCC unroll 2
  for (int part = 0; part < parts; ++part) {
    const int first_sub = part * subs / parts, end_sub = first_sub + subs / parts;
    F blk[n];
    start_part<K, Source, n>(w, b, {first_sub, end_sub}, column, sums_at, blk);
    const auto sub_block = [&](int s) GLIMPSE_INLINE_LAMBDA {
      I sum[n];
      K::template dot<Source, n>(w, s, column.at, values_at + s * L.sub, bias_at + 4 * s, sum);
      const F scale = w.scale(s);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) blk[c] = V::fma(V::to_float(sum[c]), scale, blk[c]);
    };
    if constexpr (Source::kUnrollSubs) {
#pragma GCC unroll 16
      for (int s = first_sub; s < end_sub; ++s) sub_block(s);
    } else {
      for (int s = first_sub; s < end_sub; ++s) sub_block(s);
    }
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
      total[c] = V::fma(blk[c], V::broadcast_f(column.at[c] + scales_at + 4 * part), total[c]);
    }
  }
}

/// All rows of the source x n columns, the whole reduction. The order of README.md. Both halves of a packed block are
/// read before the next one, while it is in the L1 cache.
template <class K, class Source, int n>
__attribute__((noinline)) void tile(const Source& weights, const BlockRange& range, const ActView& act,
                                    const std::byte* first_column, float* out, int64_t ld_out) {
  using V = typename K::V;
  using F = typename V::F;
  constexpr PanelLayout L = Source::L;
  const Source source = weights;
  TileColumns<n> column{{},
                        L.sub == 32 ? act.bias32_at : act.bias16_at,
                        L.sub == 32 ? act.sums32_at : act.sums16_at,
                        act.bias32_at,
                        act.scales_at};
  F total[Source::kHalves][n];
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
    column.at[c] = first_column + c * act.row_bytes;
#pragma GCC unroll 2
    for (int h = 0; h < Source::kHalves; ++h) {
      total[h][c] = range.begin == 0 ? V::zero_f() : V::load_f(out + c * ld_out + V::kLanes * h);
    }
  }
  for (int64_t b = range.begin; b < range.end; ++b) {
    if constexpr (Source::kHalves == 1 || L.block <= 32) {  // short: the totals stay in registers
#pragma GCC unroll 2
      for (int h = 0; h < Source::kHalves; ++h) {
        add_block<K, Source, n>(source.block(b - range.begin, h), b, column, total[h]);
      }
    } else {
      for (int h = 0; h < Source::kHalves; ++h) {
        asm("" : "+r"(h));  // or gcc unrolls, keeps all of a block's activations for the second half, and spills them
        add_block<K, Source, n>(source.block(b - range.begin, h), b, column, total[h]);
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
#pragma GCC unroll 2
    for (int h = 0; h < Source::kHalves; ++h) V::store_f(out + c * ld_out + V::kLanes * h, total[h][c]);
  }
}

/// Columns [begin, end) in tiles of `width` and one of the remainder. A direct tile of 8 unpacks a whole block for each
/// number of columns: what is left of 8 goes in two tiles, so that there are fewer of them.
template <class K, class Source, int width>
GLIMPSE_INLINE void all_columns(const Source& source, const BlockRange& range, const ActView& act, int64_t begin,
                                int64_t end, float* out, int64_t ld_out) {
  int64_t c = begin;
  for (; c + width <= end; c += width) {
    tile<K, Source, width>(source, range, act, act.data + c * act.row_bytes, out + c * ld_out, ld_out);
  }
  if constexpr (width == 8 && Source::kUnrollSubs) {
    all_columns<K, Source, 4>(source, range, act, c, end, out, ld_out);
  } else {
    const std::byte* column = act.data + c * act.row_bytes;
    float* to = out + c * ld_out;
    const auto remainder = [&](auto n) GLIMPSE_INLINE_LAMBDA {
      if constexpr (n.value < width) {
        if (end - c == n.value) tile<K, Source, n.value>(source, range, act, column, to, ld_out);
      }
    };
    remainder(Number<1>{});
    remainder(Number<2>{});
    remainder(Number<3>{});
    remainder(Number<4>{});
    remainder(Number<5>{});
    remainder(Number<6>{});
    remainder(Number<7>{});
  }
}

/// Writes a panel's codes (offset 128 where they are raised), scales and mins to scratch.
template <class K, PanelFormat format>
void expand(const uint8_t* panel, int64_t n_blocks, const ExpandedPanel& at, std::byte* scratch) {
  using V = typename K::V;
  constexpr PanelLayout L = panel_layout(format);
  constexpr int groups = L.block / 4, subs = L.subs(), pairs_per_block = subs / 2;
  constexpr bool raises = K::kRaised && L.is_signed() && L.offset != 128;
  const typename V::I raise = V::set8(raises ? 128 - L.offset : 0);
  for (int64_t b = 0; b < n_blocks; ++b) {
    for (int half = 0; half < V::kHalves; ++half) {
      const Unpacker<format, V, K::kSign> w(panel + b * L.bytes, half);
      std::byte* to = scratch + 32 * half;
      std::byte* codes = to + b * L.block * 16;
#pragma GCC unroll 64
      for (int g = 0; g < groups; ++g) {
        const typename V::I v = w.codes(g);
        V::store(codes + 64 * g, raises ? V::add8(v, raise) : v);
      }
      std::byte* scales = to + at.scales_at + b * subs * 64;
#pragma GCC unroll 16
      for (int s = 0; s < subs; ++s) V::store_f(scales + 64 * s, w.scale(s));
      if constexpr (L.mins == MinKind::kPairs) {
        std::byte* pairs = to + at.min_pairs_at + b * pairs_per_block * 64;
#pragma GCC unroll 8
        for (int t = 0; t < pairs_per_block; ++t) V::store(pairs + 64 * t, w.min_pair(t));
      }
      if constexpr (L.mins != MinKind::kNone) V::store_f(to + at.min_scale_at + b * 64, w.min_scale);
    }
  }
}

/// The format whose Expanded tiles this one shares: the first of the same block, sub-block and kind of min.
template <class K>
constexpr PanelFormat tile_format(PanelFormat format) {
  const PanelLayout l = panel_layout(format);
  if (!K::kRaised) return format;
  for (const BlockFormat& f : kBlockFormats) {
    const bool same = f.length() == l.block && f.sub == l.sub && f.mins == l.mins;
    if (same) return f.info.type;
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
    all_columns<K, Packed<K, format>, K::kDirectTile>(source, {0, n_blocks}, act, 0, act.n, out + 16 * p, ld_out);
  }
}

/// Many columns: pieces of a panel are expanded once, then all columns run over them.
template <class K, PanelFormat format>
GLIMPSE_INLINE void run_expanded(const uint8_t* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                                 float* out, int64_t ld_out, std::byte* scratch) {
  using V = typename K::V;
  using Source = Expanded<K, tile_format<K>(format)>;
  constexpr PanelLayout L = panel_layout(format);
  constexpr int64_t chunk = kIntegerChunk / L.block;
  const int64_t n_blocks = (act.k + L.block - 1) / L.block;
  const ExpandedPanel at = expanded_panel(L, (n_blocks < chunk ? n_blocks : chunk) * L.block);
  for (int64_t begin = 0; begin < act.n; begin += K::kColumnBlock) {
    const int64_t end = begin + K::kColumnBlock < act.n ? begin + K::kColumnBlock : act.n;
    for (int64_t first = 0; first < n_blocks; first += chunk) {
      const BlockRange range{first, first + chunk < n_blocks ? first + chunk : n_blocks};
      for (int64_t p = 0; p < n_panels; ++p) {
        const uint8_t* panel = panels + static_cast<uint64_t>(p) * panel_stride;
        float* to = out + 16 * p;
        expand<K, format>(panel + first * L.bytes, range.end - first, at, scratch);
        for (int half = 0; half < V::kHalves; ++half) {
          const Source source{scratch + 32 * half, at};
          all_columns<K, Source, K::kTileColumns>(source, range, act, begin, end, to + V::kLanes * half, ld_out);
        }
      }
    }
  }
}

}  // namespace
}  // namespace glimpse
