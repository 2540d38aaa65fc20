// F32, F16 and BF16 weights times float activations, with fused multiply-adds.
#include "kernels/matmul/matmul_float_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {

// 2 x 6 sums, two weights and a broadcast activation fit the registers.
GLIMPSE_DEFINE_FLOAT_KERNELS(avx2, Vec256, 6)

}  // namespace glimpse
