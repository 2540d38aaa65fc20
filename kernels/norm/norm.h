// Root-mean-square and layer normalisation of one row. Sums run over 16 fixed lanes and a fixed tree, so that the
// result does not depend on who computes it.
#pragma once

#include <cstdint>

#include "engine/base/cpu_features.h"

namespace glimpse {

/// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]. In place is allowed.
void rms_norm(Isa isa, const float* x, const float* weight, float eps, int64_t n, float* out);
/// out[i] = (x[i] - mean) / sqrt(var + eps) * weight[i] + bias[i], biased variance. In place is allowed.
void layer_norm(Isa isa, const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out);

}  // namespace glimpse
