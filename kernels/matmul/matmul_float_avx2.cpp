// F32, F16 and BF16 weights times float activations, with fused multiply-adds.
#include "kernels/matmul/matmul_float_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

// Columns of a tile of two vectors of rows: 2 x 6 sums, two weights and a broadcast activation fit the registers.
constexpr int kWide = 6;

}  // namespace

#define GLIMPSE_FLOAT(function, format)                                                                           \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run_float<PanelFormat::format, Vec256, kWide>(panels, panel_stride, n_panels, act, out, ld_out, scratch);     \
  }
GLIMPSE_FLOAT(matmul_f32_f32_avx2, kF32)
GLIMPSE_FLOAT(matmul_f16_f32_avx2, kF16)
GLIMPSE_FLOAT(matmul_bf16_f32_avx2, kBF16)
#undef GLIMPSE_FLOAT

}  // namespace glimpse
