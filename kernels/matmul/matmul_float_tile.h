// Float formats with fused multiply-adds, for 512-bit and 256-bit vectors alike (V is Vec512 or Vec256). Included only
// by ISA-specific files; everything has internal linkage.
//
// Every output element is one chain fma(w[k], a[k], sum) with k ascending. Few columns are multiplied straight from the
// panel; for more, F16 and BF16 are widened to floats in scratch, kFloatChunk columns of weights at a time, and the
// sums wait in `out` between chunks (storing a float and reading it back changes nothing).
#pragma once

#include "kernels/matmul/act_view.h"
#include "kernels/matmul/panel_expanded.h"
#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

/// 16 / kHalves rows of column k of a panel; `panel` is moved to the half already.
template <PanelFormat format, class V>
GLIMPSE_INLINE typename V::F float_weights(const uint8_t* panel, int64_t k, int odd) {
  if constexpr (format == PanelFormat::kF32) return V::load_f(panel + 64 * k);
  if constexpr (format == PanelFormat::kF16) return V::load_f16(panel + 32 * k, 0);
  const typename V::I pair = V::load(panel + 64 * (k / 2));  // BF16: columns k (even) and k + 1 of each row
  return V::as_float(odd ? V::and_(pair, V::set32(static_cast<int>(0xffff0000u))) : V::sll(pair, 16));
}

/// Bytes from the first to the second half (8 rows) of a panel.
constexpr int64_t half_bytes(PanelFormat format) {
  return format == PanelFormat::kF16 ? 16 : 32;
}

/// n_vectors vectors of rows x n columns, over `count` columns of weights. weights[v]: where vector v of the first
/// column lies; values: the first activation of column 0; out[v]: its results; resume: go on from what `out` holds.
template <PanelFormat format, class V, int n_vectors, int n>
__attribute__((noinline)) void float_tile(const uint8_t* const* weights, const std::byte* values, int64_t row_bytes,
                                          int64_t count, float* const* out, int64_t ld_out, bool resume) {
  using F = typename V::F;
  F sum[n_vectors][n];
#pragma GCC unroll 16
  for (int c = 0; c < n; ++c) {
#pragma GCC unroll 4
    for (int v = 0; v < n_vectors; ++v) sum[v][c] = resume ? V::load_f(out[v] + c * ld_out) : V::zero_f();
  }
  const std::byte* column[n];
#pragma GCC unroll 16
  for (int c = 0; c < n; ++c) column[c] = values + c * row_bytes;
  const uint8_t* panel[n_vectors];
#pragma GCC unroll 4
  for (int v = 0; v < n_vectors; ++v) panel[v] = weights[v];
  const auto step = [&](int64_t k, int odd) GLIMPSE_INLINE_LAMBDA {
    F w[n_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < n_vectors; ++v) w[v] = float_weights<format, V>(panel[v], k, odd);
#pragma GCC unroll 16
    for (int c = 0; c < n; ++c) {
      const F a = V::broadcast_f(column[c] + 4 * k);
#pragma GCC unroll 4
      for (int v = 0; v < n_vectors; ++v) sum[v][c] = V::fma(w[v], a, sum[v][c]);
    }
  };
  int64_t k = 0;
  for (; k + 2 <= count; k += 2) {
    step(k, 0);
    step(k + 1, 1);
  }
  if (k < count) step(k, 0);
#pragma GCC unroll 16
  for (int c = 0; c < n; ++c) {
#pragma GCC unroll 4
    for (int v = 0; v < n_vectors; ++v) V::store_f(out[v] + c * ld_out, sum[v][c]);
  }
}

/// Columns [begin, end) in tiles of at most n; calls itself with the remainder.
template <PanelFormat format, class V, int n_vectors, int n>
GLIMPSE_INLINE void float_columns(const uint8_t* const* weights, const ActView& act, int64_t first_k, int64_t count,
                                  int64_t begin, int64_t end, float* const* out, int64_t ld_out) {
  int64_t c = begin;
  for (; c + n <= end; c += n) {
    float* to[n_vectors];
    for (int v = 0; v < n_vectors; ++v) to[v] = out[v] + c * ld_out;
    float_tile<format, V, n_vectors, n>(weights, act.data + c * act.row_bytes + 4 * first_k, act.row_bytes, count, to,
                                        ld_out, first_k != 0);
  }
  if constexpr (n > 1) {
    if (c < end) {
      constexpr int next = n > 4 ? 4 : n > 2 ? 2 : 1;
      float_columns<format, V, n_vectors, next>(weights, act, first_k, count, c, end, out, ld_out);
    }
  }
}

/// Multiplies n_vectors vectors of rows starting at vector index `first` (kHalves per panel), straight from the panels.
template <PanelFormat format, class V, int n_vectors, int n>
GLIMPSE_INLINE void float_direct(const uint8_t* panels, uint64_t panel_stride, int64_t first, const ActView& act,
                                 int64_t first_k, int64_t count, int64_t begin, int64_t end, float* out,
                                 int64_t ld_out) {
  constexpr int64_t column_bytes = format == PanelFormat::kF32 ? 64 : 32;
  const uint8_t* weights[n_vectors];
  float* to[n_vectors];
  for (int v = 0; v < n_vectors; ++v) {
    const int64_t index = first + v;
    weights[v] = panels + static_cast<uint64_t>(index / V::kHalves) * panel_stride + first_k * column_bytes +
                 index % V::kHalves * half_bytes(format);
    to[v] = out + index * V::kLanes;
  }
  float_columns<format, V, n_vectors, n>(weights, act, first_k, count, begin, end, to, ld_out);
}

/// Widens columns [first_k, first_k + count) of a panel to floats, in the layout of an F32 panel.
template <PanelFormat format, class V>
GLIMPSE_INLINE void widen(const uint8_t* panel, int64_t first_k, int64_t count, std::byte* scratch) {
  for (int half = 0; half < V::kHalves; ++half) {
    const uint8_t* from = panel + half * half_bytes(format);
    for (int64_t k = 0; k < count; ++k) {
      V::store_f(scratch + 64 * k + 32 * half, float_weights<format, V>(from, first_k + k, (first_k + k) % 2 != 0));
    }
  }
}

/// Columns [begin, end) of `together` (1 or 2) panels over weight columns [first_k, first_k + count), widened first.
template <PanelFormat format, class V, int kWide>
GLIMPSE_INLINE void float_widened(const uint8_t* panels, uint64_t panel_stride, int64_t together, const ActView& act,
                                  int64_t first_k, int64_t count, int64_t begin, int64_t end, float* out,
                                  int64_t ld_out, std::byte* scratch) {
  const uint8_t* weights[2 * V::kHalves];
  float* to[2 * V::kHalves];
  for (int64_t i = 0; i < together; ++i) {
    std::byte* widened = scratch + i * kFloatChunk * 64;
    widen<format, V>(panels + static_cast<uint64_t>(i) * panel_stride, first_k, count, widened);
    for (int half = 0; half < V::kHalves; ++half) {
      weights[i * V::kHalves + half] = reinterpret_cast<const uint8_t*>(widened) + 32 * half;
      to[i * V::kHalves + half] = out + i * 16 + half * V::kLanes;
    }
  }
  int64_t v = 0;
  for (; v + 2 <= together * V::kHalves; v += 2) {
    float_columns<PanelFormat::kF32, V, 2, kWide>(weights + v, act, first_k, count, begin, end, to + v, ld_out);
  }
  if (v < together * V::kHalves) {
    float_columns<PanelFormat::kF32, V, 1, kWide>(weights + v, act, first_k, count, begin, end, to + v, ld_out);
  }
}

/// The driver of a float kernel. kWide: columns of a tile of two vectors.
template <PanelFormat format, class V, int kWide>
void run_float(const std::byte* panels_bytes, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out,
               int64_t ld_out, std::byte* scratch) {
  constexpr int64_t kColumnBlock = 32 * kWide;  // kFloatChunk activations of each stay in the L2 cache
  constexpr int64_t kDirectColumns = 8;         // below it widening does not pay
  const auto* panels = reinterpret_cast<const uint8_t*>(panels_bytes);
  const int64_t n_vectors = n_panels * V::kHalves;
  if (act.n <= 2) {  // four vectors of rows, so that four chains hide the latency of the multiply-add
    int64_t v = 0;
    for (; v + 4 <= n_vectors; v += 4) {
      float_direct<format, V, 4, 2>(panels, panel_stride, v, act, 0, act.k, 0, act.n, out, ld_out);
    }
    for (; v < n_vectors; ++v) {
      float_direct<format, V, 1, 2>(panels, panel_stride, v, act, 0, act.k, 0, act.n, out, ld_out);
    }
    return;
  }
  for (int64_t begin = 0; begin < act.n; begin += kColumnBlock) {
    const int64_t end = begin + kColumnBlock < act.n ? begin + kColumnBlock : act.n;
    for (int64_t first_k = 0; first_k < act.k; first_k += kFloatChunk) {
      const int64_t count = first_k + kFloatChunk <= act.k ? kFloatChunk : act.k - first_k;
      if (format == PanelFormat::kF32 || act.n <= kDirectColumns) {
        int64_t v = 0;
        for (; v + 2 <= n_vectors; v += 2) {
          float_direct<format, V, 2, kWide>(panels, panel_stride, v, act, first_k, count, begin, end, out, ld_out);
        }
        if (v < n_vectors) {
          float_direct<format, V, 1, kWide>(panels, panel_stride, v, act, first_k, count, begin, end, out, ld_out);
        }
      } else {
        for (int64_t p = 0; p < n_panels; p += 2) {
          float_widened<format, V, kWide>(panels + static_cast<uint64_t>(p) * panel_stride, panel_stride,
                                          p + 2 <= n_panels ? 2 : 1, act, first_k, count, begin, end, out + 16 * p,
                                          ld_out, scratch);
        }
      }
    }
  }
}

}  // namespace
}  // namespace glimpse

// The float kernels of one instruction set. V: its vectors; kWide: columns of a tile of two vectors of rows.
#define GLIMPSE_DEFINE_FLOAT_KERNEL(function, format, V, kWide)                                                   \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run_float<PanelFormat::format, V, kWide>(panels, panel_stride, n_panels, act, out, ld_out, scratch);          \
  }
#define GLIMPSE_DEFINE_FLOAT_KERNELS(isa, V, kWide)                 \
  GLIMPSE_DEFINE_FLOAT_KERNEL(matmul_f32_f32_##isa, kF32, V, kWide) \
  GLIMPSE_DEFINE_FLOAT_KERNEL(matmul_f16_f32_##isa, kF16, V, kWide) \
  GLIMPSE_DEFINE_FLOAT_KERNEL(matmul_bf16_f32_##isa, kBF16, V, kWide)
