// Rotary embedding with given cosines and sines: M-RoPE, plain RoPE and the ViT's 2D RoPE differ in the table only.
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/cpu_features.h"

namespace glimpse {

/// Rotates one head in place, pairs (j, j + head_dim / 2):
/// x[j] = x[j] cos[j] - x[j + h] sin[j],  x[j + h] = x[j + h] cos[j] + x[j] sin[j],  h = head_dim / 2.
/// cos, sin: head_dim / 2 floats.
void rope_head(Isa isa, float* x, const float* cos, const float* sin, int64_t head_dim);

/// The rotation of one instruction set.
struct RopeKernels {
  Isa isa;  // what it needs
  void (*rope_head)(float* x, const float* cos, const float* sin, int64_t head_dim);
};
/// Those of rope_kernels.inc.
std::span<const RopeKernels> rope_kernels();

}  // namespace glimpse
