// Normalised rows: shared by the kernels that quantise them, keep them as floats or make them bfloat16.
#pragma once

#include "kernels/cuda/args.h"

namespace glimpse::cuda {

/// Mean and reciprocal deviation of one piece of a row.
struct Moments {
  float mean, inverse;
};

/// All threads of the block take part. Sums: each thread ascending over its elements, then block_sum(). scratch: 32
/// floats.
GLIMPSE_DEVICE Moments moments(const float* x, const NormView& norm, int width, float* scratch) {
  Moments m{0.0f, 1.0f};
  if (norm.kind == NormKind::kNone) return m;
  const float n = static_cast<float>(width);
  if (norm.kind == NormKind::kLayer) {
    float sum = 0;
    for (int i = thread_index(); i < width; i += n_threads()) sum += x[i];
    m.mean = block_sum(sum, scratch) / n;
  }
  float square = 0;
  for (int i = thread_index(); i < width; i += n_threads()) square = fmaf(x[i] - m.mean, x[i] - m.mean, square);
  m.inverse = 1.0f / sqrtf(block_sum(square, scratch) / n + norm.eps);
  return m;
}

GLIMPSE_DEVICE float normalized(float x, const NormView& norm, const Moments& m, int i) {
  if (norm.kind == NormKind::kNone) return x;
  const float y = (x - m.mean) * m.inverse * norm.weight[i];
  return norm.kind == NormKind::kLayer && norm.bias != nullptr ? y + norm.bias[i] : y;
}

/// Length of the pieces that a row of k elements is normalised in.
GLIMPSE_DEVICE int norm_width(const NormView& norm, int k) {
  return norm.kind == NormKind::kNone || norm.width <= 0 ? k : norm.width;
}

}  // namespace glimpse::cuda
