// The per-ISA functions behind rope.h.
#pragma once

#include "kernels/rope/rope.h"

namespace glimpse {

void rope_head_ref(float* x, const float* cos, const float* sin, int64_t head_dim);
void rope_head_avx2(float* x, const float* cos, const float* sin, int64_t head_dim);
void rope_head_avx512(float* x, const float* cos, const float* sin, int64_t head_dim);

}  // namespace glimpse
