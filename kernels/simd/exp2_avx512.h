// 2^x for 16 lanes. Internal linkage: every file that includes this has its own copy, compiled for its own ISA.
#pragma once

#include <immintrin.h>

#include "kernels/simd/exp2_coefficients.h"

namespace glimpse {
namespace {

/// p(f) 2^n: f in [-0.5, 0.5], n integral. Over- and underflow go to infinity and (denormals,) zero; NaN propagates.
inline __m512 exp2_parts_avx512(__m512 n, __m512 f) {
  __m512 p = _mm512_set1_ps(kExp2C5);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2C4));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2C3));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2C2));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2C1));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

/// 2^x for x <= 0; below -126 it stays at 2^-126. NaN propagates (the clamp returns its second operand then).
inline __m512 exp2_nonpositive_avx512(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
  return exp2_parts_avx512(n, _mm512_sub_ps(x, n));
}

/// 2^(x (scale + scale_low)) with the product carried in two parts, so that its rounding does not show in the
/// result. |x scale| must stay below 2^20.
inline __m512 exp2_scaled_avx512(__m512 x, float scale, float scale_low) {
  const __m512 c = _mm512_set1_ps(scale);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, c), _MM_FROUND_TO_NEAREST_INT);
  const __m512 f = _mm512_fmadd_ps(x, _mm512_set1_ps(scale_low), _mm512_fmsub_ps(x, c, n));
  return exp2_parts_avx512(n, f);
}

/// 2^(a b) without rounding the product. Below 2^20 in size.
inline __m512 exp2_product_avx512(__m512 a, __m512 b) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(a, b), _MM_FROUND_TO_NEAREST_INT);
  return exp2_parts_avx512(n, _mm512_fmsub_ps(a, b, n));
}

}  // namespace
}  // namespace glimpse
