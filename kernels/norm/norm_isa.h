// The per-ISA functions behind norm.h.
#pragma once

#include "kernels/norm/norm.h"

namespace glimpse {

#define GLIMPSE_NORM_FUNCTIONS(isa)                                                           \
  void rms_norm_##isa(const float* x, const float* weight, float eps, int64_t n, float* out); \
  void layer_norm_##isa(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out);
GLIMPSE_NORM_FUNCTIONS(ref)
GLIMPSE_NORM_FUNCTIONS(avx2)
GLIMPSE_NORM_FUNCTIONS(avx512)
#undef GLIMPSE_NORM_FUNCTIONS

}  // namespace glimpse
