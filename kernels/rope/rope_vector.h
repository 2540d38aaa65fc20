// Rotary embedding for any vector width, with the same bits: a pair is turned by itself. Internal linkage.
#pragma once

#include <cstdint>

namespace glimpse {
namespace {

// S: a vector type of kernels/simd.
template <class S>
inline void rope_head_of(float* x, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t j = 0; j < half; j += S::kLanes) {
    const int64_t count = half - j;
    const typename S::F a = S::load_row(x + j, count), b = S::load_row(x + half + j, count);
    const typename S::F c = S::load_row(cos + j, count), s = S::load_row(sin + j, count);
    S::store_row(x + j, count, S::fnma(b, s, S::mul(a, c)));
    S::store_row(x + half + j, count, S::fma(a, s, S::mul(b, c)));
  }
}

}  // namespace
}  // namespace glimpse
