// Norms for AVX-512. Sums in double: no overflow for any float, and the cost hides behind the loads.
#include "kernels/norm/norm_isa.h"
#include "kernels/norm/norm_vector.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

// 16 running sums: lane l takes the elements l, 16 + l, ...
struct Lanes {
  __m512d low = _mm512_setzero_pd();
  __m512d high = _mm512_setzero_pd();
};

inline __m512d widen_low(__m512 x) {
  return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
}
inline __m512d widen_high(__m512 x) {
  return _mm512_cvtps_pd(_mm512_maskz_extractf32x8_ps(0xff, x, 1));
}

// Lanes 8 apart, then 4, 2 and 1. (The masked extracts keep GCC 12 from warning about its own header.)
inline double total(const Lanes& sums) {
  const __m512d s8 = _mm512_add_pd(sums.low, sums.high);
  const __m256d s4 = _mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xf, s8, 0), _mm512_maskz_extractf64x4_pd(0xf, s8, 1));
  const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

inline double reciprocal_root(double x) {
  const __m128d v = _mm_set_sd(x);
  return 1.0 / _mm_cvtsd_f64(_mm_sqrt_sd(v, v));
}

}  // namespace

void rms_norm_avx512(const float* x, const float* weight, float eps, int64_t n, float* out) {
  Lanes sums;
  for (int64_t i = 0; i < n; i += 16) {
    const __m512 v = load_row_avx512(x + i, n - i);
    const __m512d low = widen_low(v), high = widen_high(v);
    sums.low = _mm512_fmadd_pd(low, low, sums.low);
    sums.high = _mm512_fmadd_pd(high, high, sums.high);
  }
  const double mean = total(sums) / static_cast<double>(n);
  scale_row<Vec512>(x, weight, reciprocal_root(mean + static_cast<double>(eps)), n, out);
}

void layer_norm_avx512(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) {
  Lanes sums;
  for (int64_t i = 0; i < n; i += 16) {
    const __m512 v = load_row_avx512(x + i, n - i);
    sums.low = _mm512_add_pd(sums.low, widen_low(v));
    sums.high = _mm512_add_pd(sums.high, widen_high(v));
  }
  const double mean = total(sums) / static_cast<double>(n);
  const __m512d center = _mm512_set1_pd(mean);
  Lanes squares;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 lanes = lanes_below_avx512(n - i);
    const __m512 v = load_row_avx512(x + i, n - i);
    const __m512d low = _mm512_maskz_sub_pd(static_cast<__mmask8>(lanes), widen_low(v), center);
    const __m512d high = _mm512_maskz_sub_pd(static_cast<__mmask8>(lanes >> 8), widen_high(v), center);
    squares.low = _mm512_fmadd_pd(low, low, squares.low);
    squares.high = _mm512_fmadd_pd(high, high, squares.high);
  }
  const double variance = total(squares) / static_cast<double>(n);
  center_row<Vec512>(x, weight, bias, mean, reciprocal_root(variance + static_cast<double>(eps)), n, out);
}

}  // namespace glimpse
