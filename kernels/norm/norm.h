// Root-mean-square and layer normalisation of one row. The vector versions sum in double over 16 fixed lanes and a
// fixed tree, so that the result depends neither on who computes it nor on the vector width (AVX2 and AVX-512 give
// the same bits).
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/cpu_features.h"

namespace glimpse {

/// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]. In place is allowed. eps > 0. NaN and infinity in x give NaN at
/// their place at least, as the formula does.
void rms_norm(Isa isa, const float* x, const float* weight, float eps, int64_t n, float* out);
/// out[i] = (x[i] - mean) / sqrt(var + eps) * weight[i] + bias[i], biased variance. In place is allowed. eps > 0.
void layer_norm(Isa isa, const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out);

/// The norms of one instruction set.
struct NormKernels {
  Isa isa;  // what they need
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out);
};
/// Those of norm_kernels.inc.
std::span<const NormKernels> norm_kernels();

}  // namespace glimpse
