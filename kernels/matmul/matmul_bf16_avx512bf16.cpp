// BF16 weights times bfloat16 activations with vdpbf16ps: two products per lane and instruction, float sums.
// Every output element is one chain over ascending pairs of columns, whatever the number of columns or panels.
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

using V = Vec512;
using F = V::F;

// Two panels x 12 columns: 24 sums, two weight vectors and a broadcast activation; 24 chains hide the latency of 6.
constexpr int kTileColumns = 12;
// Pairs of k that the tiles of a column block go through before the next piece: 1.5 KB of each column's activations and
// 2 x 24 KB of weights stay in the L2 cache. The sums wait in `out` between pieces, which changes nothing in them.
constexpr int64_t kChunkPairs = 384;
constexpr int64_t kColumnBlock = 32 * kTileColumns;

/// n_panels panels x n columns over pairs [begin, end) of weight columns; past 0 it goes on from what `out` holds.
template <int n_panels, int n>
__attribute__((noinline)) void tile(const std::byte* panels, uint64_t panel_stride, int64_t begin, int64_t end,
                                    const std::byte* values, int64_t row_bytes, float* out, int64_t ld_out) {
  F sum[n_panels][n];
  const std::byte* column[n];
#pragma GCC unroll 12
  for (int c = 0; c < n; ++c) {
    column[c] = values + c * row_bytes;
#pragma GCC unroll 4
    for (int p = 0; p < n_panels; ++p) sum[p][c] = begin == 0 ? V::zero_f() : V::load_f(out + c * ld_out + 16 * p);
  }
  for (int64_t k = begin; k < end; ++k) {
    __m512bh w[n_panels];
#pragma GCC unroll 4
    for (int p = 0; p < n_panels; ++p) {
      w[p] = (__m512bh)V::load(panels + static_cast<uint64_t>(p) * panel_stride + 64 * k);
    }
#pragma GCC unroll 12
    for (int c = 0; c < n; ++c) {
      const __m512bh a = (__m512bh)V::broadcast32(column[c] + 4 * k);
#pragma GCC unroll 4
      for (int p = 0; p < n_panels; ++p) sum[p][c] = _mm512_dpbf16_ps(sum[p][c], w[p], a);
    }
  }
#pragma GCC unroll 12
  for (int c = 0; c < n; ++c) {
#pragma GCC unroll 4
    for (int p = 0; p < n_panels; ++p) V::store_f(out + c * ld_out + 16 * p, sum[p][c]);
  }
}

/// The part of a product that one call of `columns` computes.
struct Part {
  int64_t first_pair, end_pair;
  int64_t first_column, end_column;
};

/// The columns of a part in tiles of at most n; calls itself with the remainder.
template <int n_panels, int n>
GLIMPSE_INLINE void columns(const std::byte* panels, uint64_t panel_stride, const ActView& act, Part part, float* out,
                            int64_t ld_out) {
  int64_t& c = part.first_column;
  for (; c + n <= part.end_column; c += n) {
    tile<n_panels, n>(panels, panel_stride, part.first_pair, part.end_pair, act.data + c * act.row_bytes, act.row_bytes,
                      out + c * ld_out, ld_out);
  }
  if constexpr (n > 1) {
    constexpr int next = n > 8 ? 8 : n > 4 ? 4 : n > 2 ? 2 : 1;
    if (c < part.end_column) columns<n_panels, next>(panels, panel_stride, act, part, out, ld_out);
  }
}

/// All panels, `together` at a time.
template <int together, int n>
GLIMPSE_INLINE void all_panels(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                               const Part& part, float* out, int64_t ld_out) {
  int64_t p = 0;
  for (; p + together <= n_panels; p += together) {
    columns<together, n>(panels + static_cast<uint64_t>(p) * panel_stride, panel_stride, act, part, out + 16 * p,
                         ld_out);
  }
  for (; p < n_panels; ++p) {
    columns<1, n>(panels + static_cast<uint64_t>(p) * panel_stride, panel_stride, act, part, out + 16 * p, ld_out);
  }
}

}  // namespace

void matmul_bf16_bf16_avx512bf16(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                                 float* out, int64_t ld_out, std::byte*) {
  const int64_t n_pairs = (act.k + 1) / 2;
  if (act.n <= 4) return all_panels<4, 4>(panels, panel_stride, n_panels, act, {0, n_pairs, 0, act.n}, out, ld_out);
  for (int64_t begin = 0; begin < act.n; begin += kColumnBlock) {
    const int64_t end = begin + kColumnBlock < act.n ? begin + kColumnBlock : act.n;
    for (int64_t first = 0; first < n_pairs; first += kChunkPairs) {
      const int64_t last = first + kChunkPairs < n_pairs ? first + kChunkPairs : n_pairs;
      all_panels<2, kTileColumns>(panels, panel_stride, n_panels, act, {first, last, begin, end}, out, ld_out);
    }
  }
}

}  // namespace glimpse
