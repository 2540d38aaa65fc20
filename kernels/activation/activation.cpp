// Selection and the reference of the activations.
#include "kernels/activation/activation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/activation/activation_isa.h"

namespace glimpse {
namespace {

// x weight(x) for a weight that falls to zero at minus infinity faster than x grows.
float weighted(float x, double weight) {
  const float finite = x < 0 ? std::max(x, -std::numeric_limits<float>::max()) : x;  // -inf * 0 would be NaN
  return static_cast<float>(finite * weight);
}

double sigmoid(double z) {
  return 1.0 / (1.0 + std::exp(-z));
}

float activated(Activation activation, float x) {
  constexpr double kTwoRootTwoOverPi = 1.5957691216057308;
  const double v = x;
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kQuickGelu:
      return weighted(x, sigmoid(1.702 * x));
    case Activation::kGeluErf:  // 1 + erf(u) = erfc(-u), which keeps its digits where erf is near -1
      return weighted(x, 0.5 * std::erfc(-x * 0.70710678118654752));
    case Activation::kGeluTanh:  // (1 + tanh(u)) / 2 = sigmoid(2 u)
      return weighted(x, sigmoid(kTwoRootTwoOverPi * (v + 0.044715 * v * v * v)));
    case Activation::kSilu:
      return weighted(x, sigmoid(x));
  }
  return x;
}

}  // namespace

void swiglu_ref(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = activated(Activation::kSilu, gate[i]) * up[i];
}

void add_ref(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

void store_tile_ref(const ProductTile& tile, Activation activation, float* out, int64_t ld_out) {
  for (int64_t c = 0; c < tile.n_columns; ++c) {
    float* to = out + c * ld_out;
    for (int64_t r = 0; r < tile.n_rows; ++r) {
      const float value = tile.values[c * tile.ld + r];
      to[r] = activated(activation, tile.bias != nullptr ? value + tile.bias[r] : value);  // -0 + 0 would be 0
    }
  }
}

void add_tile_ref(const ProductTile& tile, float* out, int64_t ld_out) {
  for (int64_t c = 0; c < tile.n_columns; ++c) {
    for (int64_t r = 0; r < tile.n_rows; ++r) {
      out[c * ld_out + r] += tile.values[c * tile.ld + r] + (tile.bias != nullptr ? tile.bias[r] : 0.0f);
    }
  }
}

namespace {

constexpr ActivationKernels kKernels[] = {
#define GLIMPSE_KERNEL(isa, suffix) {Isa::isa, swiglu_##suffix, add_##suffix, store_tile_##suffix, add_tile_##suffix},
#include "kernels/activation/activation_kernels.inc"
};

}  // namespace

std::span<const ActivationKernels> activation_kernels() {
  return kKernels;
}

void store_tile(Isa isa, const ProductTile& tile, Activation activation, float* out, int64_t ld_out) {
  select_kernel(kKernels, isa)->store_tile(tile, activation, out, ld_out);
}
void add_tile(Isa isa, const ProductTile& tile, float* out, int64_t ld_out) {
  select_kernel(kKernels, isa)->add_tile(tile, out, ld_out);
}
void swiglu(Isa isa, const float* gate, const float* up, int64_t n, float* out) {
  select_kernel(kKernels, isa)->swiglu(gate, up, n, out);
}
void add(Isa isa, const float* x, int64_t n, float* y) {
  select_kernel(kKernels, isa)->add(x, n, y);
}

}  // namespace glimpse
