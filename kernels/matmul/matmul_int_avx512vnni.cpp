// Integer formats with 512-bit vpdpbusd.
#include "kernels/matmul/matmul_dot_vnni.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

struct Words512 {
  using V = Vec512;
  static GLIMPSE_INLINE V::I dpbusd(V::I sum, V::I codes, V::I values) {
    return _mm512_dpbusd_epi32(sum, codes, values);
  }
  static GLIMPSE_INLINE V::I dpwssd(V::I sum, V::I a, V::I b) { return _mm512_dpwssd_epi32(sum, a, b); }
};

struct Vnni512 : VnniDot<Words512> {
  // 8 int32 sums, 8 block sums and 8 totals fill 24 of the 32 registers; 8 chains hide vpdpbusd's latency of 4.
  static constexpr int kTileColumns = 8;
  static constexpr int64_t kColumnBlock = 256;
  static constexpr int kDirectTile = 8;
  // Up to here reading the packed panel once per eight columns is cheaper than expanding it.
  static constexpr int kDirectColumns = 16;
};

/// acc += four products of unsigned and signed bytes each. Not the intrinsic, at which gcc 12 copies sums about.
GLIMPSE_INLINE void add_dots(__m512i& acc, __m512i codes, __m512i values) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(values));
}

/// `panels` panels of kI8x32 x n columns over blocks [range.begin, range.end). Each value of a column is read once for
/// all panels: with one panel as many loads as products would be the limit, and scales per 32 would come on top.
template <int panels, int n>
__attribute__((noinline)) void wide_tile(const uint8_t* panel, uint64_t stride, const BlockRange& range,
                                         const ActView& act, const std::byte* first_column, float* out,
                                         int64_t ld_out) {
  using V = Vec512;
  constexpr PanelLayout L = panel_layout(PanelFormat::kI8x32);
  const std::byte* column[n];
  V::F total[panels][n];
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
    column[c] = first_column + c * act.row_bytes;
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) {
      total[p][c] = range.begin == 0 ? V::zero_f() : V::load_f(out + c * ld_out + 16 * p);
    }
  }
  const int64_t to_bias = act.bias32_at, to_scale = act.scales_at;
  const uint8_t* block = panel + range.begin * L.bytes;
  for (int64_t b = range.begin; b < range.end; ++b, block += L.bytes) {
    V::I sum[panels][n];
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) sum[p][c] = V::broadcast32(column[c] + to_bias + 4 * b);
    }
#pragma GCC unroll 8
    for (int g = 0; g < L.block / 4; ++g) {
      V::I codes[panels];
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) {
        codes[p] = V::load(block + static_cast<uint64_t>(p) * stride + L.codes_at + 64 * g);
      }
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const V::I values = V::broadcast32(column[c] + L.block * b + 4 * g);
#pragma GCC unroll 4
        for (int p = 0; p < panels; ++p) add_dots(sum[p][c], codes[p], values);
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) {
      const V::F scale = V::load_f(block + static_cast<uint64_t>(p) * stride + L.d_at);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const V::F part = V::fma(V::to_float(sum[p][c]), scale, V::zero_f());
        total[p][c] = V::fma(part, V::broadcast_f(column[c] + to_scale + 4 * b), total[p][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < n; ++c) {
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) V::store_f(out + c * ld_out + 16 * p, total[p][c]);
  }
}

/// Columns [begin, end) in tiles of `width`, then one of the rest.
template <int panels, int width>
GLIMPSE_INLINE void wide_columns(const uint8_t* panel, uint64_t stride, const BlockRange& range, const ActView& act,
                                 int64_t begin, int64_t end, float* out, int64_t ld_out) {
  int64_t c = begin;
  const auto tile = [&](auto n) GLIMPSE_INLINE_LAMBDA {
    wide_tile<panels, n.value>(panel, stride, range, act, act.data + c * act.row_bytes, out + c * ld_out, ld_out);
  };
  for (; c + width <= end; c += width) tile(Number<width>{});
  if (end - c == 1) tile(Number<1>{});
  if (end - c == 2) tile(Number<2>{});
  if (end - c == 3) tile(Number<3>{});
  if (end - c == 4) tile(Number<4>{});
  if (end - c == 5) tile(Number<5>{});
}

/// kI8x32 with many columns.
inline void run_wide(const uint8_t* panels, uint64_t stride, int64_t n_panels, const ActView& act, float* out,
                     int64_t ld_out) {
  constexpr PanelLayout L = panel_layout(PanelFormat::kI8x32);
  constexpr int64_t chunk = kIntegerChunk / 2 / L.block;  // of two panels: they stay in the L1 cache
  const int64_t n_blocks = (act.k + L.block - 1) / L.block;
  for (int64_t begin = 0; begin < act.n; begin += Vnni512::kColumnBlock) {
    const int64_t end = begin + Vnni512::kColumnBlock < act.n ? begin + Vnni512::kColumnBlock : act.n;
    for (int64_t first = 0; first < n_blocks; first += chunk) {
      const BlockRange range{first, first + chunk < n_blocks ? first + chunk : n_blocks};
      int64_t p = 0;
      for (; p + 2 <= n_panels; p += 2) {
        wide_columns<2, 6>(panels + static_cast<uint64_t>(p) * stride, stride, range, act, begin, end, out + 16 * p,
                           ld_out);
      }
      if (p < n_panels) {
        wide_columns<1, 6>(panels + static_cast<uint64_t>(p) * stride, stride, range, act, begin, end, out + 16 * p,
                           ld_out);
      }
    }
  }
}

}  // namespace

#define GLIMPSE_VNNI(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run_vnni<Vnni512, PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);            \
  }
#define GLIMPSE_BLOCK_32(type, name) GLIMPSE_VNNI(matmul_##name##_int8x32_avx512vnni, type)
#define GLIMPSE_BLOCK_256(type, name) GLIMPSE_VNNI(matmul_##name##_int8x128k_avx512vnni, type)
#include "kernels/quant/block_formats.inc"
#undef GLIMPSE_VNNI

void matmul_i8x32_int8x32mixed_avx512vnni(const std::byte* panels, uint64_t panel_stride, int64_t n_panels,
                                          const ActView& act, float* out, int64_t ld_out, std::byte*) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(panels);
  if (act.n <= Vnni512::kDirectColumns) {
    run_direct<Vnni512, PanelFormat::kI8x32>(bytes, panel_stride, n_panels, act, out, ld_out);
  } else {
    run_wide(bytes, panel_stride, n_panels, act, out, ld_out);
  }
}

}  // namespace glimpse
