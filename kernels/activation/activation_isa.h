// The per-ISA functions behind activation.h.
#pragma once

#include "kernels/activation/activation.h"

namespace glimpse {

#define GLIMPSE_ACTIVATION_FUNCTIONS(isa)                                                            \
  void swiglu_##isa(const float* gate, const float* up, int64_t n, float* out);                      \
  void quick_gelu_##isa(float* x, int64_t n);                                                        \
  void gelu_erf_##isa(float* x, int64_t n);                                                          \
  void gelu_tanh_##isa(float* x, int64_t n);                                                         \
  void silu_##isa(float* x, int64_t n);                                                              \
  void add_##isa(const float* x, int64_t n, float* y);                                               \
  void store_tile_##isa(const ProductTile& tile, Activation activation, float* out, int64_t ld_out); \
  void add_tile_##isa(const ProductTile& tile, float* out, int64_t ld_out);
GLIMPSE_ACTIVATION_FUNCTIONS(ref)
GLIMPSE_ACTIVATION_FUNCTIONS(avx2)
GLIMPSE_ACTIVATION_FUNCTIONS(avx512)
#undef GLIMPSE_ACTIVATION_FUNCTIONS

}  // namespace glimpse
