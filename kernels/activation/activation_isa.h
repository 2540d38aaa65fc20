// The per-ISA functions behind activation.h.
#pragma once

#include "kernels/activation/activation.h"

namespace glimpse {

#define GLIMPSE_KERNEL(isa, suffix)                                                                     \
  void swiglu_##suffix(const float* gate, const float* up, int64_t n, float* out);                      \
  void quick_gelu_##suffix(float* x, int64_t n);                                                        \
  void gelu_erf_##suffix(float* x, int64_t n);                                                          \
  void gelu_tanh_##suffix(float* x, int64_t n);                                                         \
  void silu_##suffix(float* x, int64_t n);                                                              \
  void add_##suffix(const float* x, int64_t n, float* y);                                               \
  void store_tile_##suffix(const ProductTile& tile, Activation activation, float* out, int64_t ld_out); \
  void add_tile_##suffix(const ProductTile& tile, float* out, int64_t ld_out);
#include "kernels/activation/activation_kernels.inc"

}  // namespace glimpse
