// Selection and the reference of the norms.
#include "kernels/norm/norm.h"

#include <cmath>

#include "kernels/norm/norm_isa.h"

namespace glimpse {

void rms_norm_ref(const float* x, const float* weight, float eps, int64_t n, float* out) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(x[i] * scale * weight[i]);
}

void layer_norm_ref(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>((x[i] - mean) * scale * weight[i] + bias[i]);
}

namespace {

constexpr NormKernels kKernels[] = {
#define GLIMPSE_KERNEL(isa, suffix) {Isa::isa, rms_norm_##suffix, layer_norm_##suffix},
#include "kernels/norm/norm_kernels.inc"
};

}  // namespace

std::span<const NormKernels> norm_kernels() {
  return kKernels;
}

void rms_norm(Isa isa, const float* x, const float* weight, float eps, int64_t n, float* out) {
  select_kernel(kKernels, isa)->rms_norm(x, weight, eps, n, out);
}

void layer_norm(Isa isa, const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) {
  select_kernel(kKernels, isa)->layer_norm(x, weight, bias, eps, n, out);
}

}  // namespace glimpse
