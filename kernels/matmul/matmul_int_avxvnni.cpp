// Integer formats with 256-bit vpdpbusd, for CPUs that have it without AVX-512: the 16-row panel as two halves of 8
// rows.
#include "kernels/matmul/matmul_dot_vnni.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

struct Words256 {
  using V = Vec256;
  static GLIMPSE_INLINE V::I dpbusd(V::I sum, V::I codes, V::I values) {
    return _mm256_dpbusd_avx_epi32(sum, codes, values);
  }
  static GLIMPSE_INLINE void add_dots(V::I& sum, V::I codes, V::I values) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(values));
  }
  static GLIMPSE_INLINE V::I dpwssd(V::I sum, V::I a, V::I b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }
};

struct Vnni256 : VnniDot<Words256> {
  // 6 int32 sums and 6 block sums beside two weights and an activation in 16 registers; the totals, touched once in 128
  // columns of weights, lie in memory.
  static constexpr int kTileColumns = 3;
  static constexpr int64_t kColumnBlock = 96;  // for the 256 KB of L2 cache of older CPUs
  static constexpr int kDirectTile = 4;
  static constexpr int kDirectColumns = 8;
};

}  // namespace

#define GLIMPSE_VNNI(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run_vnni<Vnni256, PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);            \
  }
#define GLIMPSE_BLOCK_32(type, name) GLIMPSE_VNNI(matmul_##name##_int8x32_avxvnni, type)
#define GLIMPSE_BLOCK_256(type, name) GLIMPSE_VNNI(matmul_##name##_int8x128k_avxvnni, type)
#include "kernels/quant/block_formats.inc"
GLIMPSE_VNNI(matmul_i8x32_int8x32mixed_avxvnni, kI8x32)
#undef GLIMPSE_VNNI

}  // namespace glimpse
