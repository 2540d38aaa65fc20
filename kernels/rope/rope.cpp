// Selection and the reference of the rotary embedding.
#include "kernels/rope/rope.h"

#include "kernels/rope/rope_isa.h"

namespace glimpse {

void rope_head_ref(float* x, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t j = 0; j < half; ++j) {
    const double a = x[j], b = x[j + half];
    x[j] = static_cast<float>(a * cos[j] - b * sin[j]);
    x[j + half] = static_cast<float>(b * cos[j] + a * sin[j]);
  }
}

namespace {

constexpr RopeKernels kKernels[] = {
#define GLIMPSE_KERNEL(isa, suffix) {Isa::isa, rope_head_##suffix},
#include "kernels/rope/rope_kernels.inc"
};

}  // namespace

std::span<const RopeKernels> rope_kernels() {
  return kKernels;
}

void rope_head(Isa isa, float* x, const float* cos, const float* sin, int64_t head_dim) {
  select_kernel(kKernels, isa)->rope_head(x, cos, sin, head_dim);
}

}  // namespace glimpse
