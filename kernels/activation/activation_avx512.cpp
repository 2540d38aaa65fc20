// Activations for AVX-512.
#include "kernels/activation/activation_isa.h"
#include "kernels/activation/activation_vector.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {

GLIMPSE_DEFINE_ACTIVATIONS(avx512, Vec512)

}  // namespace glimpse
