// Integer formats with AVX2: the 16-row panel as two halves of 8 rows. Codes of up to 6 bits: vpmaddubsw into 16-bit
// sums that are widened before they could overflow. 8-bit weights: vpmaddubsw of |w| and a * sign(w), at most 2 * 128 *
// 127 = 32512, widened at once. Sums are exact, so results equal those of every other ISA bit for bit.
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/matmul/matmul_unpack.h"
#include "kernels/matmul/matmul_words_avx2.h"
#include "kernels/matmul/panel_expanded.h"
#include "kernels/matmul/panel_layout.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

using V = Vec256;
using I = V::I;
using F = V::F;

// 4 columns: 4 16-bit sums, 4 int32 sums and 4 block sums beside a weight, an activation and a constant in 16
// registers.
constexpr int kTileColumns = 4;
constexpr int kDirectColumns = 4;
// Columns of activations that pass over each expanded piece of a panel: their kIntegerChunk values stay in the L2 cache
// (256 KB on the oldest CPUs) while the panels stream by.
constexpr int64_t kColumnBlock = 96;

constexpr int log2_of(int v) {
  return v <= 1 ? 0 : 1 + log2_of(v / 2);
}
constexpr bool is_wide(const PanelLayout& l) {
  return l.offset == 128;
}  // 8-bit weights
/// Groups that are added in 16 bits, as a power of two: each adds at most 2 * code * 127. No more than 4: longer runs
/// make gcc 12 spill (Q4_K 178 GOP/s against 197).
constexpr int safe_groups(const PanelLayout& l) {
  const int max_code = (1 << (l.low_bits + l.high_bits)) - 1;
  int groups = 4;
  while (groups * 2 * max_code * 127 > 32767) groups /= 2;
  return groups;
}

/// Weights straight from half a packed panel.
template <PanelFormat format>
struct Packed {
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr bool kUnrollSubs = true;
  using Block = Unpacker<format, V, ByteSign::kSigned>;
  const uint8_t* panel;
  int half;
  GLIMPSE_INLINE Block block(int64_t b) const { return Block(panel + b * L.bytes, half); }
};

/// Half of the weights in scratch: codes as they are (8-bit formats: int8).
template <PanelFormat format>
struct Expanded {
  static constexpr PanelLayout L = panel_layout(format);
  static constexpr bool kUnrollSubs = false;
  struct Block {
    const std::byte* code_bytes;
    const std::byte* scales;
    const std::byte* pairs;
    F min_scale;
    GLIMPSE_INLINE I codes(int g) const { return V::load(code_bytes + 64 * g); }
    GLIMPSE_INLINE F scale(int s) const { return V::load_f(scales + 64 * s); }
    GLIMPSE_INLINE I min_pair(int t) const { return V::load(pairs + 64 * t); }
  };
  const std::byte* scratch;  // moved to the half
  ExpandedPanel at;
  GLIMPSE_INLINE Block block(int64_t b) const {
    Block block{scratch + b * L.block * 16,
                scratch + at.scales_at + b * L.subs() * 64,
                scratch + at.min_pairs_at + b * (L.subs() / 2) * 64,
                {}};
    if constexpr (L.mins != MinKind::kNone) block.min_scale = V::load_f(scratch + at.min_scale_at + b * 64);
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
  const I ones = _mm256_set1_epi16(1);
  I sum[n];
  if constexpr (is_wide(L)) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const I weight = w.codes(s * groups + g);
      const I magnitude = _mm256_abs_epi8(weight);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const I a = _mm256_sign_epi8(V::broadcast32(column[c] + values_at + 4 * g), weight);
        const I products = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, a), ones);
        sum[c] = g == 0 ? products : V::add32(sum[c], products);
      }
    }
  } else {
    constexpr int run = safe_groups(L);
    constexpr int runs = groups / run;
#pragma GCC unroll 8
    for (int r = 0; r < runs; ++r) {
      I narrow[n];
#pragma GCC unroll 8
      for (int i = 0; i < run; ++i) {
        const int g = r * run + i;
        const I codes = w.codes(s * groups + g);
#pragma GCC unroll 8
        for (int c = 0; c < n; ++c) {
          const I products = _mm256_maddubs_epi16(codes, V::broadcast32(column[c] + values_at + 4 * g));
          narrow[c] = i == 0 ? products : _mm256_add_epi16(narrow[c], products);
        }
      }
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const I widened = _mm256_madd_epi16(narrow[c], ones);
        sum[c] = r == 0 ? widened : V::add32(sum[c], widened);
      }
    }
    if constexpr (L.is_signed()) {
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        sum[c] = V::add32(sum[c], V::sra(V::broadcast32(column[c] + bias_at), 7 - log2_of(L.offset)));
      }
    }
  }
  const F scale = w.scale(s);
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) blk[c] = V::fma(V::to_float(sum[c]), scale, blk[c]);
}

/// 8 rows x n columns, the whole reduction. The order of README.md.
template <class Source, int n>
__attribute__((noinline)) void tile(const Source& source, const BlockRange& range, const ActView& act,
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
            const I sums = V::broadcast32(column[c] + sums_base + (b * subs + 2 * t) * 2);
            pairs[c] = V::add32(pairs[c], _mm256_madd_epi16(mins, sums));
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

/// Columns [begin, end) of half a panel.
template <class Source>
GLIMPSE_INLINE void all_columns(const Source& source, const BlockRange& range, const ActView& act, int64_t begin,
                                int64_t end, float* out, int64_t ld_out) {
  int64_t c = begin;
  for (; c + kTileColumns <= end; c += kTileColumns) {
    tile<Source, kTileColumns>(source, range, act, act.data + c * act.row_bytes, out + c * ld_out, ld_out);
  }
  const std::byte* column = act.data + c * act.row_bytes;
  float* to = out + c * ld_out;
  switch (end - c) {
    case 1:
      return tile<Source, 1>(source, range, act, column, to, ld_out);
    case 2:
      return tile<Source, 2>(source, range, act, column, to, ld_out);
    case 3:
      return tile<Source, 3>(source, range, act, column, to, ld_out);
    default:
      return;
  }
}

/// Writes a panel's codes, scales and mins to scratch.
template <PanelFormat format>
void expand(const uint8_t* panel, int64_t n_blocks, const ExpandedPanel& at, std::byte* scratch) {
  constexpr PanelLayout L = panel_layout(format);
  constexpr int groups = L.block / 4, subs = L.subs(), pairs_per_block = subs / 2;
  for (int64_t b = 0; b < n_blocks; ++b) {
    for (int half = 0; half < V::kHalves; ++half) {
      const Unpacker<format, V, ByteSign::kSigned> w(panel + b * L.bytes, half);
      std::byte* to = scratch + 32 * half;
      std::byte* codes = to + b * L.block * 16;
#pragma GCC unroll 64
      for (int g = 0; g < groups; ++g) V::store(codes + 64 * g, w.codes(g));
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

template <PanelFormat format>
void run(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out,
         int64_t ld_out, std::byte* scratch) {
  constexpr PanelLayout L = panel_layout(format);
  const int64_t n_blocks = (act.k + L.block - 1) / L.block;
  if (act.n <= kDirectColumns) {
    for (int64_t p = 0; p < n_panels; ++p) {
      for (int half = 0; half < V::kHalves; ++half) {
        const Packed<format> source{reinterpret_cast<const uint8_t*>(panels) + static_cast<uint64_t>(p) * panel_stride,
                                    half};
        all_columns(source, {0, n_blocks}, act, 0, act.n, out + 16 * p + 8 * half, ld_out);
      }
    }
    return;
  }
  if constexpr (is_wide(L) && L.sub == L.block) {
    run_words<format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);
    return;
  }
  constexpr int64_t chunk = kIntegerChunk / L.block;
  const ExpandedPanel at = expanded_panel(L, (n_blocks < chunk ? n_blocks : chunk) * L.block);
  for (int64_t begin = 0; begin < act.n; begin += kColumnBlock) {
    const int64_t end = begin + kColumnBlock < act.n ? begin + kColumnBlock : act.n;
    for (int64_t first = 0; first < n_blocks; first += chunk) {
      const BlockRange range{first, first + chunk < n_blocks ? first + chunk : n_blocks};
      for (int64_t p = 0; p < n_panels; ++p) {
        const auto* panel = reinterpret_cast<const uint8_t*>(panels) + static_cast<uint64_t>(p) * panel_stride;
        expand<format>(panel + first * L.bytes, range.end - first, at, scratch);
        for (int half = 0; half < V::kHalves; ++half) {
          const Expanded<format> source{scratch + 32 * half, at};
          all_columns(source, range, act, begin, end, out + 16 * p + 8 * half, ld_out);
        }
      }
    }
  }
}

}  // namespace

#define GLIMPSE_AVX2(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run<PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);                          \
  }
GLIMPSE_AVX2(matmul_q4_0_int8x32_avx2, kQ4_0)
GLIMPSE_AVX2(matmul_q4_1_int8x32_avx2, kQ4_1)
GLIMPSE_AVX2(matmul_q5_0_int8x32_avx2, kQ5_0)
GLIMPSE_AVX2(matmul_q5_1_int8x32_avx2, kQ5_1)
GLIMPSE_AVX2(matmul_q8_0_int8x32_avx2, kQ8_0)
GLIMPSE_AVX2(matmul_iq4_nl_int8x32_avx2, kIQ4_NL)
GLIMPSE_AVX2(matmul_q2_k_int8x128k_avx2, kQ2_K)
GLIMPSE_AVX2(matmul_q3_k_int8x128k_avx2, kQ3_K)
GLIMPSE_AVX2(matmul_q4_k_int8x128k_avx2, kQ4_K)
GLIMPSE_AVX2(matmul_q5_k_int8x128k_avx2, kQ5_K)
GLIMPSE_AVX2(matmul_q6_k_int8x128k_avx2, kQ6_K)
GLIMPSE_AVX2(matmul_iq4_xs_int8x128k_avx2, kIQ4_XS)
GLIMPSE_AVX2(matmul_i8x128_int8x128_avx2, kI8x128)
#undef GLIMPSE_AVX2

}  // namespace glimpse
