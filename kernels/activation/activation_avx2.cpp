// Activations for AVX2.
#include "kernels/activation/activation_isa.h"
#include "kernels/activation/activation_vector.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {

GLIMPSE_DEFINE_ACTIVATIONS(avx2, Vec256)

}  // namespace glimpse
