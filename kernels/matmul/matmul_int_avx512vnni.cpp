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
  static GLIMPSE_INLINE void add_dots(V::I& sum, V::I codes, V::I values) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(values));
  }
  static GLIMPSE_INLINE V::I dpwssd(V::I sum, V::I a, V::I b) { return _mm512_dpwssd_epi32(sum, a, b); }
};

struct Vnni512 : VnniDot<Words512> {
  // 12 int32 sums, 12 block sums, two weights and an activation in 32 registers; the totals, touched once in 128
  // columns of weights, lie in memory. Each value of a column is read once for two panels: with one panel as many loads
  // as products would be the limit of full-width 512-bit machines.
  static constexpr int kTileColumns = 6;
  static constexpr int64_t kColumnBlock = 256;
  static constexpr int kDirectTile = 8;
  // Up to here reading the packed panel once per eight columns is cheaper than expanding it.
  static constexpr int kDirectColumns = 16;
};

}  // namespace

#define GLIMPSE_VNNI(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run_vnni<Vnni512, PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);            \
  }
#define GLIMPSE_BLOCK_32(type, name) GLIMPSE_VNNI(matmul_##name##_int8x32_avx512vnni, type)
#define GLIMPSE_BLOCK_256(type, name) GLIMPSE_VNNI(matmul_##name##_int8x128k_avx512vnni, type)
#include "kernels/quant/block_formats.inc"
GLIMPSE_VNNI(matmul_i8x32_int8x32mixed_avx512vnni, kI8x32)
#undef GLIMPSE_VNNI

}  // namespace glimpse
