// Rotary embedding for AVX-512.
#include "kernels/rope/rope_isa.h"
#include "kernels/rope/rope_vector.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {

void rope_head_avx512(float* x, const float* cos, const float* sin, int64_t head_dim) {
  rope_head_of<Vec512>(x, cos, sin, head_dim);
}

}  // namespace glimpse
