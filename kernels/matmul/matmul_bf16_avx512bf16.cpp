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
constexpr int64_t kColumnBlockBytes = 768 << 10;

/// n_panels panels x n columns over n_pairs pairs of weight columns.
template <int n_panels, int n>
__attribute__((noinline)) void tile(const std::byte* panels, uint64_t panel_stride, int64_t n_pairs,
                                    const std::byte* values, int64_t row_bytes, float* out, int64_t ld_out) {
  F sum[n_panels][n];
  const std::byte* column[n];
#pragma GCC unroll 12
  for (int c = 0; c < n; ++c) {
    column[c] = values + c * row_bytes;
#pragma GCC unroll 4
    for (int p = 0; p < n_panels; ++p) sum[p][c] = V::zero_f();
  }
  for (int64_t k = 0; k < n_pairs; ++k) {
    __m512bh w[n_panels];
#pragma GCC unroll 4
    for (int p = 0; p < n_panels; ++p)
      w[p] = (__m512bh)V::load(panels + static_cast<uint64_t>(p) * panel_stride + 64 * k);
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

/// Columns [begin, end) in tiles of at most n; calls itself with the remainder.
template <int n_panels, int n>
GLIMPSE_INLINE void columns(const std::byte* panels, uint64_t panel_stride, const ActView& act, int64_t begin,
                            int64_t end, float* out, int64_t ld_out) {
  int64_t c = begin;
  for (; c + n <= end; c += n) {
    tile<n_panels, n>(panels, panel_stride, (act.k + 1) / 2, act.data + c * act.row_bytes, act.row_bytes,
                      out + c * ld_out, ld_out);
  }
  if constexpr (n > 1) {
    if (c < end) {
      constexpr int next = n > 8 ? 8 : n > 4 ? 4 : n > 2 ? 2 : 1;
      columns<n_panels, next>(panels, panel_stride, act, c, end, out, ld_out);
    }
  }
}

/// All panels, `together` at a time.
template <int together, int n>
GLIMPSE_INLINE void all_panels(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                               int64_t begin, int64_t end, float* out, int64_t ld_out) {
  int64_t p = 0;
  for (; p + together <= n_panels; p += together) {
    columns<together, n>(panels + static_cast<uint64_t>(p) * panel_stride, panel_stride, act, begin, end, out + 16 * p,
                         ld_out);
  }
  for (; p < n_panels; ++p) {
    columns<1, n>(panels + static_cast<uint64_t>(p) * panel_stride, panel_stride, act, begin, end, out + 16 * p,
                  ld_out);
  }
}

}  // namespace

void matmul_bf16_bf16_avx512bf16(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                                 float* out, int64_t ld_out, std::byte*) {
  if (act.n <= 4) return all_panels<4, 4>(panels, panel_stride, n_panels, act, 0, act.n, out, ld_out);
  int64_t step = kColumnBlockBytes / act.row_bytes / kTileColumns * kTileColumns;
  if (step < 8 * kTileColumns) step = 8 * kTileColumns;
  for (int64_t begin = 0; begin < act.n; begin += step) {
    const int64_t end = begin + step < act.n ? begin + step : act.n;
    all_panels<2, kTileColumns>(panels, panel_stride, n_panels, act, begin, end, out, ld_out);
  }
}

}  // namespace glimpse
