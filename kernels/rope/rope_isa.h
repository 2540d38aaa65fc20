// The per-ISA functions behind rope.h.
#pragma once

#include "kernels/rope/rope.h"

namespace glimpse {

#define GLIMPSE_KERNEL(isa, suffix) \
  void rope_head_##suffix(float* x, const float* cos, const float* sin, int64_t head_dim);
#include "kernels/rope/rope_kernels.inc"

}  // namespace glimpse
