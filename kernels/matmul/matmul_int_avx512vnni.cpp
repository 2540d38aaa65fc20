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

}  // namespace

#define GLIMPSE_VNNI(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run_vnni<Vnni512, PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);            \
  }
#define GLIMPSE_BLOCK_32(type, name) GLIMPSE_VNNI(matmul_##name##_int8x32_avx512vnni, type)
#define GLIMPSE_BLOCK_256(type, name) GLIMPSE_VNNI(matmul_##name##_int8x128k_avx512vnni, type)
#include "kernels/quant/block_formats.inc"
GLIMPSE_VNNI(matmul_i8x128_int8x128_avx512vnni, kI8x128)
#undef GLIMPSE_VNNI

}  // namespace glimpse
