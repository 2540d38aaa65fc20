// Activation functions. Infinities give the limits of the functions (-0 or +infinity), NaN propagates.
//
// The vector versions (polynomial exponential) stay within 3e-6 |y| + 1e-9 |x| + 1e-36 of the exact value y at x. The
// second term is gelu_tanh's alone, whose exponent is a rounded cubic (it matters below x = -5, where y < 1e-6 x); the
// third covers results made from denormals.
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/cpu_features.h"
#include "kernels/activation/activation_kind.h"

namespace glimpse {

/// out[i] = silu(gate[i]) * up[i], silu(z) as in activation_kind.h. In place on either input is allowed.
void swiglu(Isa isa, const float* gate, const float* up, int64_t n, float* out);
/// y[i] += x[i].
void add(Isa isa, const float* x, int64_t n, float* y);

/// A finished tile of a matrix product on its way into the result: column c holds n_rows values at values + c * ld.
/// bias: nullptr, or (n_rows).
struct ProductTile {
  const float* values = nullptr;
  int64_t ld = 0;
  int64_t n_rows = 0;
  int64_t n_columns = 0;
  const float* bias = nullptr;
};
/// out[c * ld_out + r] = activation(tile[c][r] + bias[r]). In place on the values is allowed.
void store_tile(Isa isa, const ProductTile& tile, Activation activation, float* out, int64_t ld_out);
/// out[c * ld_out + r] += tile[c][r] + bias[r].
void add_tile(Isa isa, const ProductTile& tile, float* out, int64_t ld_out);

/// The activations of one instruction set.
struct ActivationKernels {
  Isa isa;  // what they need
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
  void (*add)(const float* x, int64_t n, float* y);
  void (*store_tile)(const ProductTile& tile, Activation activation, float* out, int64_t ld_out);
  void (*add_tile)(const ProductTile& tile, float* out, int64_t ld_out);
};
/// Those of activation_kernels.inc.
std::span<const ActivationKernels> activation_kernels();

}  // namespace glimpse
