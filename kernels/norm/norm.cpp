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

void rms_norm(Isa isa, const float* x, const float* weight, float eps, int64_t n, float* out) {
  if (isa >= Isa::kAvx512) return rms_norm_avx512(x, weight, eps, n, out);
  if (isa >= Isa::kAvx2) return rms_norm_avx2(x, weight, eps, n, out);
  rms_norm_ref(x, weight, eps, n, out);
}

void layer_norm(Isa isa, const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) {
  if (isa >= Isa::kAvx512) return layer_norm_avx512(x, weight, bias, eps, n, out);
  if (isa >= Isa::kAvx2) return layer_norm_avx2(x, weight, bias, eps, n, out);
  layer_norm_ref(x, weight, bias, eps, n, out);
}

}  // namespace glimpse
