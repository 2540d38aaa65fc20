// 2^x for 8 lanes. Internal linkage: every file that includes this has its own copy, compiled for its own ISA.
#pragma once

#include <immintrin.h>

#include "kernels/simd/exp2_coefficients.h"

namespace glimpse {
namespace {

inline __m256 exp2_polynomial_avx2(__m256 f) {
  __m256 p = _mm256_set1_ps(kExp2C5);
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2C4));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2C3));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2C2));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2C1));
  return _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
}

/// 2^n for integers in [-126, 127].
inline __m256 exp2_integer_avx2(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/// p(f) 2^n: f in [-0.5, 0.5], n integral in [-252, 254]. The power is applied in two halves, so that results may go
/// through the denormals to zero, or to infinity. NaN propagates.
inline __m256 exp2_parts_avx2(__m256 n, __m256 f) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256 p = _mm256_mul_ps(exp2_polynomial_avx2(f), exp2_integer_avx2(half));
  return _mm256_mul_ps(p, exp2_integer_avx2(_mm256_sub_epi32(whole, half)));
}

/// 2^x for x <= 0; below -126 it stays at 2^-126. NaN propagates (the clamp returns its second operand then).
inline __m256 exp2_nonpositive_avx2(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-126.0f), x);
  const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 p = exp2_polynomial_avx2(_mm256_sub_ps(x, n));
  return _mm256_mul_ps(p, exp2_integer_avx2(_mm256_cvtps_epi32(n)));
}

/// 2^(x (scale + scale_low)) with the product carried in two parts, so that its rounding does not show in the
/// result. |x scale| must stay below 250.
inline __m256 exp2_scaled_avx2(__m256 x, float scale, float scale_low) {
  const __m256 c = _mm256_set1_ps(scale);
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, c), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 f = _mm256_fmadd_ps(x, _mm256_set1_ps(scale_low), _mm256_fmsub_ps(x, c, n));
  return exp2_parts_avx2(n, f);
}

/// 2^(a b) without rounding the product. Below 250 in size.
inline __m256 exp2_product_avx2(__m256 a, __m256 b) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(a, b), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return exp2_parts_avx2(n, _mm256_fmsub_ps(a, b, n));
}

}  // namespace
}  // namespace glimpse
