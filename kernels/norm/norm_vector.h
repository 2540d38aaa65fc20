// What norms do to a row once its sums are known, for any vector width, with the same bits. Internal linkage.
#pragma once

#include <cstdint>

namespace glimpse {
namespace {

// out = x scale weight. S: a vector type of kernels/simd.
template <class S>
inline void scale_row(const float* x, const float* weight, double scale, int64_t n, float* out) {
  const typename S::F by = S::set_f(static_cast<float>(scale));
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F v = S::mul(S::load_row(x + i, n - i), by);
    S::store_row(out + i, n - i, S::mul(v, S::load_row(weight + i, n - i)));
  }
}

// out = (x - mean) scale weight + bias. The mean in two floats: a mean far above the deviation must not eat its digits.
template <class S>
inline void center_row(const float* x, const float* weight, const float* bias, double mean, double scale, int64_t n,
                       float* out) {
  const typename S::F by = S::set_f(static_cast<float>(scale));
  const float high = static_cast<float>(mean);
  const typename S::F m0 = S::set_f(high), m1 = S::set_f(static_cast<float>(mean - static_cast<double>(high)));
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F v = S::sub(S::sub(S::load_row(x + i, n - i), m0), m1);
    const typename S::F w = S::load_row(weight + i, n - i);
    S::store_row(out + i, n - i, S::fma(S::mul(v, by), w, S::load_row(bias + i, n - i)));
  }
}

}  // namespace
}  // namespace glimpse
