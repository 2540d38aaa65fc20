// Attention around the kernel for AVX2.
#include "kernels/attention/attention_rows_vector.h"
#include "kernels/attention/attention_vector_avx2.h"

namespace glimpse {

GLIMPSE_DEFINE_ATTENTION_ROWS(avx2, Avx2)

}  // namespace glimpse
