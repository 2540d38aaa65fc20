// The per-ISA functions behind norm.h.
#pragma once

#include "kernels/norm/norm.h"

namespace glimpse {

#define GLIMPSE_KERNEL(isa, suffix)                                                              \
  void rms_norm_##suffix(const float* x, const float* weight, float eps, int64_t n, float* out); \
  void layer_norm_##suffix(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out);
#include "kernels/norm/norm_kernels.inc"

}  // namespace glimpse
