// Attention around the kernel for AVX-512.
#include "kernels/attention/attention_rows_vector.h"
#include "kernels/attention/attention_vector_avx512.h"

namespace glimpse {

GLIMPSE_DEFINE_ATTENTION_ROWS(avx512, Avx512)

}  // namespace glimpse
