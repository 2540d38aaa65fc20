// Integer formats with vpdpbusd: unsigned weight codes times signed activations, four products per lane and
// instruction, exact in int32. Up to kDirectColumns columns are multiplied straight from the packed panel; more columns
// share one expansion of the panel into bytes and run in tiles of 16 rows x 8 columns.
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/matmul/matmul_unpack.h"
#include "kernels/matmul/panel_expanded.h"
#include "kernels/matmul/panel_layout.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

using V = Vec512;
using I = V::I;
using F = V::F;

// 8 columns: 8 int32 sums, 8 block sums and 8 totals fill 24 of the 32 registers; 8 chains hide vpdpbusd's latency
// of 4.
constexpr int kTileColumns = 8;
constexpr int kDirectTile = 4;  // beside the scales of a packed block there are registers for four columns
// Up to here reading the packed panel once per four columns is cheaper than expanding it.
constexpr int kDirectColumns = 16;
// Columns of activations that pass over each expanded piece of a panel: kIntegerChunk of k of each (2.2 KB with the
// sums) stay in the L2 cache while the panels stream by.
constexpr int64_t kColumnBlock = 256;

constexpr int log2_of(int v) {
  return v <= 1 ? 0 : 1 + log2_of(v / 2);
}

/// Weights straight from a packed panel.
template <PanelFormat format>
struct Packed {
  static constexpr PanelLayout L = panel_layout(format);
  // The activations' bias is for an offset of 128.
  static constexpr int kBiasShift = L.is_signed() ? 7 - log2_of(L.offset) : 0;
  static constexpr bool kUnrollSubs = true;
  using Block = Unpacker<format, V, ByteSign::kUnsigned>;
  const uint8_t* panel;
  GLIMPSE_INLINE Block block(int64_t b) const { return Block(panel + b * L.bytes, 0); }
};

/// Weights from scratch. L: any format of the same shape (block, sub-block, kind of min).
template <PanelFormat format>
struct Expanded {
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr int kBiasShift = 0;
  static constexpr bool kUnrollSubs = false;
  struct Block {
    const std::byte* code_bytes;
    const std::byte* scales;
    const std::byte* pairs;
    F min_scale;
    GLIMPSE_INLINE I codes(int g) const { return _mm512_load_si512(code_bytes + 64 * g); }
    GLIMPSE_INLINE F scale(int s) const { return _mm512_load_ps(scales + 64 * s); }
    GLIMPSE_INLINE I min_pair(int t) const { return _mm512_load_si512(pairs + 64 * t); }
  };
  const std::byte* scratch;
  ExpandedPanel at;
  GLIMPSE_INLINE Block block(int64_t b) const {
    Block block{scratch + b * L.block * 16,
                scratch + at.scales_at + b * L.subs() * 64,
                scratch + at.min_pairs_at + b * (L.subs() / 2) * 64,
                {}};
    if constexpr (L.mins != MinKind::kNone) block.min_scale = _mm512_load_ps(scratch + at.min_scale_at + b * 64);
    return block;
  }
};

/// Blocks [begin, end) of the reduction; past 0, the totals so far lie in the output.
struct BlockRange {
  int64_t begin, end;
};

/// blk[c] := fma(float(integer sum of sub-block s), scale, blk[c])
template <class Source, int n, class Block>
GLIMPSE_INLINE void add_sub_block(const Block& w, int s, const std::byte* const* column, int64_t values_at,
                                  int64_t bias_at, F* blk) {
  constexpr PanelLayout L = Source::L;
  constexpr int groups = L.sub / 4;
  constexpr int chains = n == 1 ? 2 : 1;  // one column alone would wait for its own sums
  I sum[n][chains];
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
    sum[c][0] = V::zero();
    if constexpr (L.is_signed()) sum[c][0] = V::sra(V::broadcast32(column[c] + bias_at), Source::kBiasShift);
    if constexpr (chains == 2) sum[c][chains - 1] = V::zero();
  }
#pragma GCC unroll 8
  for (int g = 0; g < groups; ++g) {
    const I codes = w.codes(s * groups + g);
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
      I& to = sum[c][g % chains];
      to = _mm512_dpbusd_epi32(to, codes, V::broadcast32(column[c] + values_at + 4 * g));
    }
  }
  const F scale = w.scale(s);
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
    if constexpr (chains == 2) sum[c][0] = V::add32(sum[c][0], sum[c][chains - 1]);
    blk[c] = V::fma(V::to_float(sum[c][0]), scale, blk[c]);
  }
}

/// 16 rows x n columns, the whole reduction. The order of README.md.
template <class Source, int n>
GLIMPSE_INLINE void tile(const Source& source, const BlockRange& range, const ActView& act,
                         const std::byte* first_column, float* out, int64_t ld_out) {
  constexpr PanelLayout L = Source::L;
  constexpr int subs = L.subs(), parts = act_parts(L);
  const std::byte* column[n];
  F total[n];
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
    column[c] = first_column + c * act.row_bytes;
    total[c] = range.begin == 0 ? V::zero_f() : V::load_f(out + c * ld_out);
  }
  const int64_t bias_base = L.sub == 128 ? act.bias128_at : L.sub == 32 ? act.bias32_at : act.bias16_at;
  const int64_t sums_base = L.sub == 32 ? act.sums32_at : act.sums16_at;
  for (int64_t b = range.begin; b < range.end; ++b) {
    const auto w = source.block(b - range.begin);
#pragma GCC unroll 2
    for (int part = 0; part < parts; ++part) {
      const int first_sub = part * subs / parts, end_sub = first_sub + subs / parts;
      F blk[n];
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) blk[c] = V::zero_f();
      if constexpr (L.mins == MinKind::kPairs) {
        I pairs[n];
#pragma GCC unroll 8
        for (int c = 0; c < n; ++c) pairs[c] = V::zero();
#pragma GCC unroll 8
        for (int t = first_sub / 2; t < end_sub / 2; ++t) {
          const I mins = w.min_pair(t);
#pragma GCC unroll 8
          for (int c = 0; c < n; ++c) {
            pairs[c] =
                _mm512_dpwssd_epi32(pairs[c], mins, V::broadcast32(column[c] + sums_base + (b * subs + 2 * t) * 2));
          }
        }
#pragma GCC unroll 8
        for (int c = 0; c < n; ++c) blk[c] = V::mul(V::to_float(pairs[c]), w.min_scale);
      } else if constexpr (L.mins == MinKind::kBlock) {
#pragma GCC unroll 8
        for (int c = 0; c < n; ++c) {
          blk[c] = V::mul(V::to_float(V::broadcast32(column[c] + act.bias32_at + b * 4)), w.min_scale);
        }
      }
      if constexpr (Source::kUnrollSubs) {
#pragma GCC unroll 16
        for (int s = first_sub; s < end_sub; ++s) {
          add_sub_block<Source, n>(w, s, column, b * L.block + s * L.sub, bias_base + (b * subs + s) * 4, blk);
        }
      } else {
        for (int s = first_sub; s < end_sub; ++s) {
          add_sub_block<Source, n>(w, s, column, b * L.block + s * L.sub, bias_base + (b * subs + s) * 4, blk);
        }
      }
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        total[c] = V::fma(blk[c], V::broadcast_f(column[c] + act.scales_at + (b * parts + part) * 4), total[c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) V::store_f(out + c * ld_out, total[c]);
}

/// Tiles of one panel; n: columns of the last, smaller tile.
template <class Source, int n>
__attribute__((noinline)) void tile_of(const Source& source, const BlockRange& range, const ActView& act,
                                       const std::byte* first_column, float* out, int64_t ld_out) {
  tile<Source, n>(source, range, act, first_column, out, ld_out);
}

/// All columns [begin, end) of one panel in tiles of `width`.
template <class Source, int width>
GLIMPSE_INLINE void all_columns(const Source& source, const BlockRange& range, const ActView& act, int64_t begin,
                                int64_t end, float* out, int64_t ld_out) {
  int64_t c = begin;
  for (; c + width <= end; c += width) {
    tile_of<Source, width>(source, range, act, act.data + c * act.row_bytes, out + c * ld_out, ld_out);
  }
  const std::byte* column = act.data + c * act.row_bytes;
  float* to = out + c * ld_out;
  switch (end - c) {
    case 1:
      return tile_of<Source, 1>(source, range, act, column, to, ld_out);
    case 2:
      return tile_of<Source, 2>(source, range, act, column, to, ld_out);
    case 3:
      return tile_of<Source, 3>(source, range, act, column, to, ld_out);
    default:
      break;
  }
  if constexpr (width > 4) {
    switch (end - c) {
      case 4:
        return tile_of<Source, 4>(source, range, act, column, to, ld_out);
      case 5:
        return tile_of<Source, 5>(source, range, act, column, to, ld_out);
      case 6:
        return tile_of<Source, 6>(source, range, act, column, to, ld_out);
      case 7:
        return tile_of<Source, 7>(source, range, act, column, to, ld_out);
      default:
        break;
    }
  }
}

/// Writes a panel's codes (offset 128 where they are signed), scales and mins to scratch.
template <PanelFormat format>
void expand(const uint8_t* panel, int64_t n_blocks, const ExpandedPanel& at, std::byte* scratch) {
  constexpr PanelLayout L = panel_layout(format);
  constexpr int groups = L.block / 4, subs = L.subs(), pairs_per_block = subs / 2;
  const I raise = V::set8(L.is_signed() ? 128 - L.offset : 0);
  for (int64_t b = 0; b < n_blocks; ++b) {
    const Unpacker<format, V, ByteSign::kUnsigned> w(panel + b * L.bytes, 0);
    std::byte* codes = scratch + b * L.block * 16;
#pragma GCC unroll 64
    for (int g = 0; g < groups; ++g) {
      const I v = w.codes(g);
      V::store(codes + 64 * g, L.is_signed() && L.offset != 128 ? V::add8(v, raise) : v);
    }
    std::byte* scales = scratch + at.scales_at + b * subs * 64;
#pragma GCC unroll 16
    for (int s = 0; s < subs; ++s) V::store_f(scales + 64 * s, w.scale(s));
    if constexpr (L.mins == MinKind::kPairs) {
      std::byte* pairs = scratch + at.min_pairs_at + b * pairs_per_block * 64;
#pragma GCC unroll 8
      for (int t = 0; t < pairs_per_block; ++t) V::store(pairs + 64 * t, w.min_pair(t));
    }
    if constexpr (L.mins != MinKind::kNone) V::store_f(scratch + at.min_scale_at + b * 64, w.min_scale);
  }
}

/// The format whose Expanded tiles this one shares: same block, sub-block and kind of min.
constexpr PanelFormat tile_format(PanelFormat format) {
  const PanelLayout l = panel_layout(format);
  if (l.block == 32) return l.is_signed() ? PanelFormat::kQ4_0 : PanelFormat::kQ4_1;
  if (l.sub == 32) return l.is_signed() ? PanelFormat::kIQ4_XS : PanelFormat::kQ4_K;
  return l.is_signed() ? PanelFormat::kQ6_K : PanelFormat::kQ2_K;
}

template <PanelFormat format>
void run(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out,
         int64_t ld_out, std::byte* scratch) {
  constexpr PanelLayout L = panel_layout(format);
  const int64_t n_blocks = (act.k + L.block - 1) / L.block;
  if (act.n <= kDirectColumns) {
    for (int64_t p = 0; p < n_panels; ++p) {
      const Packed<format> source{reinterpret_cast<const uint8_t*>(panels) + static_cast<uint64_t>(p) * panel_stride};
      all_columns<Packed<format>, kDirectTile>(source, {0, n_blocks}, act, 0, act.n, out + 16 * p, ld_out);
    }
    return;
  }
  constexpr int64_t chunk = kIntegerChunk / L.block;
  if constexpr (L.own) {  // codes and scales are stored as the tiles want them
    for (int64_t begin = 0; begin < act.n; begin += kColumnBlock) {
      const int64_t end = begin + kColumnBlock < act.n ? begin + kColumnBlock : act.n;
      for (int64_t first = 0; first < n_blocks; first += chunk) {
        const BlockRange range{first, first + chunk < n_blocks ? first + chunk : n_blocks};
        for (int64_t p = 0; p < n_panels; ++p) {
          const Packed<format> source{reinterpret_cast<const uint8_t*>(panels) +
                                      static_cast<uint64_t>(p) * panel_stride + first * L.bytes};
          all_columns<Packed<format>, kTileColumns>(source, range, act, begin, end, out + 16 * p, ld_out);
        }
      }
    }
    return;
  }
  constexpr PanelFormat shape = tile_format(format);
  const ExpandedPanel at = expanded_panel(L, (n_blocks < chunk ? n_blocks : chunk) * L.block);
  const Expanded<shape> source{scratch, at};
  for (int64_t begin = 0; begin < act.n; begin += kColumnBlock) {
    const int64_t end = begin + kColumnBlock < act.n ? begin + kColumnBlock : act.n;
    for (int64_t first = 0; first < n_blocks; first += chunk) {
      const BlockRange range{first, first + chunk < n_blocks ? first + chunk : n_blocks};
      for (int64_t p = 0; p < n_panels; ++p) {
        const auto* panel = reinterpret_cast<const uint8_t*>(panels) + static_cast<uint64_t>(p) * panel_stride;
        expand<format>(panel + first * L.bytes, range.end - first, at, scratch);
        all_columns<Expanded<shape>, kTileColumns>(source, range, act, begin, end, out + 16 * p, ld_out);
      }
    }
  }
}

}  // namespace

#define GLIMPSE_VNNI(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run<PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);                          \
  }
GLIMPSE_VNNI(matmul_q4_0_int8x32_avx512vnni, kQ4_0)
GLIMPSE_VNNI(matmul_q4_1_int8x32_avx512vnni, kQ4_1)
GLIMPSE_VNNI(matmul_q5_0_int8x32_avx512vnni, kQ5_0)
GLIMPSE_VNNI(matmul_q5_1_int8x32_avx512vnni, kQ5_1)
GLIMPSE_VNNI(matmul_q8_0_int8x32_avx512vnni, kQ8_0)
GLIMPSE_VNNI(matmul_iq4_nl_int8x32_avx512vnni, kIQ4_NL)
GLIMPSE_VNNI(matmul_q2_k_int8x128k_avx512vnni, kQ2_K)
GLIMPSE_VNNI(matmul_q3_k_int8x128k_avx512vnni, kQ3_K)
GLIMPSE_VNNI(matmul_q4_k_int8x128k_avx512vnni, kQ4_K)
GLIMPSE_VNNI(matmul_q5_k_int8x128k_avx512vnni, kQ5_K)
GLIMPSE_VNNI(matmul_q6_k_int8x128k_avx512vnni, kQ6_K)
GLIMPSE_VNNI(matmul_iq4_xs_int8x128k_avx512vnni, kIQ4_XS)
GLIMPSE_VNNI(matmul_i8x128_int8x128_avx512vnni, kI8x128)
#undef GLIMPSE_VNNI

}  // namespace glimpse
