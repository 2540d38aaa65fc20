// Activation functions on rows; the vector versions stay within 3e-6 relative of the reference (polynomial exp2).
#pragma once

#include <cstdint>

#include "engine/base/cpu_features.h"

namespace glimpse {

/// out[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + e^-z). In place on either input is allowed.
void swiglu(Isa isa, const float* gate, const float* up, int64_t n, float* out);
/// x[i] = x[i] * sigmoid(1.702 x[i]).
void quick_gelu(Isa isa, float* x, int64_t n);
/// x[i] = x[i] / 2 * (1 + erf(x[i] / sqrt(2))).
void gelu_erf(Isa isa, float* x, int64_t n);
/// x[i] = x[i] / 2 * (1 + tanh(sqrt(2 / pi) (x[i] + 0.044715 x[i]^3))).
void gelu_tanh(Isa isa, float* x, int64_t n);
/// x[i] = silu(x[i]).
void silu(Isa isa, float* x, int64_t n);
/// y[i] += x[i].
void add(Isa isa, const float* x, int64_t n, float* y);

}  // namespace glimpse
