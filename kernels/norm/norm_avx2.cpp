// Norms for AVX2: the same 16 lanes and the same tree as norm_avx512.cpp, hence the same bits.
#include "kernels/norm/norm_isa.h"
#include "kernels/norm/norm_vector.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

// 16 running sums: lane l takes the elements l, 16 + l, ...; four lanes per vector.
struct Lanes {
  __m256d part[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
};

// 16 elements as doubles, zero from `count` on.
inline void load_widened(const float* x, int64_t count, __m256d out[4]) {
  for (int half = 0; half < 2; ++half) {
    const __m256 v = count >= 16 ? _mm256_loadu_ps(x + 8 * half) : load_row_avx2(x + 8 * half, count - 8 * half);
    out[2 * half] = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    out[2 * half + 1] = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
  }
}

// Lanes 8 apart, then 4, 2 and 1.
inline double total(const Lanes& sums) {
  const __m256d low = _mm256_add_pd(sums.part[0], sums.part[2]);
  const __m256d high = _mm256_add_pd(sums.part[1], sums.part[3]);
  const __m256d s4 = _mm256_add_pd(low, high);
  const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

inline double reciprocal_root(double x) {
  const __m128d v = _mm_set_sd(x);
  return 1.0 / _mm_cvtsd_f64(_mm_sqrt_sd(v, v));
}

// Lanes of part j (elements 4 j to 4 j + 3) that lie in front of `count`.
inline __m256d part_mask(int64_t count, int j) {
  const int64_t left = count - 4 * j;
  const double clamped = left >= 4 ? 4.0 : left <= 0 ? 0.0 : static_cast<double>(left);
  return _mm256_cmp_pd(_mm256_setr_pd(0, 1, 2, 3), _mm256_set1_pd(clamped), _CMP_LT_OQ);
}

}  // namespace

void rms_norm_avx2(const float* x, const float* weight, float eps, int64_t n, float* out) {
  Lanes sums;
  for (int64_t i = 0; i < n; i += 16) {
    __m256d v[4];
    load_widened(x + i, n - i, v);
    for (int j = 0; j < 4; ++j) sums.part[j] = _mm256_fmadd_pd(v[j], v[j], sums.part[j]);
  }
  const double mean = total(sums) / static_cast<double>(n);
  scale_row<Vec256>(x, weight, reciprocal_root(mean + static_cast<double>(eps)), n, out);
}

void layer_norm_avx2(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) {
  Lanes sums;
  for (int64_t i = 0; i < n; i += 16) {
    __m256d v[4];
    load_widened(x + i, n - i, v);
    for (int j = 0; j < 4; ++j) sums.part[j] = _mm256_add_pd(sums.part[j], v[j]);
  }
  const double mean = total(sums) / static_cast<double>(n);
  const __m256d center = _mm256_set1_pd(mean);
  Lanes squares;
  for (int64_t i = 0; i < n; i += 16) {
    __m256d v[4];
    load_widened(x + i, n - i, v);
    for (int j = 0; j < 4; ++j) {
      __m256d apart = _mm256_sub_pd(v[j], center);
      if (n - i < 16) apart = _mm256_and_pd(apart, part_mask(n - i, j));
      squares.part[j] = _mm256_fmadd_pd(apart, apart, squares.part[j]);
    }
  }
  const double variance = total(squares) / static_cast<double>(n);
  center_row<Vec256>(x, weight, bias, mean, reciprocal_root(variance + static_cast<double>(eps)), n, out);
}

}  // namespace glimpse
