// The per-ISA functions behind activation.h.
#pragma once

#include "kernels/activation/activation.h"

namespace glimpse {

#define GLIMPSE_KERNEL(isa, suffix)                                                                     \
  void swiglu_##suffix(const float* gate, const float* up, int64_t n, float* out);                      \
  void add_##suffix(const float* x, int64_t n, float* y);                                               \
  void store_tile_##suffix(const ProductTile& tile, Activation activation, float* out, int64_t ld_out); \
  void add_tile_##suffix(const ProductTile& tile, float* out, int64_t ld_out);
#include "kernels/activation/activation_kernels.inc"

}  // namespace glimpse
