// Norms for AVX2: four lanes of doubles per part.
#include "kernels/norm/norm_isa.h"
#include "kernels/norm/norm_vector.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

struct Doubles256 {
  using D = __m256d;

  // Zero from `count` on.
  static inline void load(const float* x, int64_t count, D* out) {
    for (int half = 0; half < 2; ++half) {
      const __m256 v = count >= 16 ? _mm256_loadu_ps(x + 8 * half) : load_row_avx2(x + 8 * half, count - 8 * half);
      out[2 * half] = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
      out[2 * half + 1] = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    }
  }
  static inline D add(D a, D b) { return _mm256_add_pd(a, b); }
  static inline D fma(D a, D b, D c) { return _mm256_fmadd_pd(a, b, c); }
  // v - center, zero in the lanes of part j (elements 4 j to 4 j + 3) from `count` on.
  static inline D sub_below(D v, double center, int64_t count, int j) {
    const D apart = _mm256_sub_pd(v, _mm256_set1_pd(center));
    if (count >= 16) return apart;
    const int64_t left = count - 4 * j;
    const double clamped = left >= 4 ? 4.0 : left <= 0 ? 0.0 : static_cast<double>(left);
    return _mm256_and_pd(apart, _mm256_cmp_pd(_mm256_setr_pd(0, 1, 2, 3), _mm256_set1_pd(clamped), _CMP_LT_OQ));
  }
  static inline double total(const D* part) {
    const D s4 = _mm256_add_pd(_mm256_add_pd(part[0], part[2]), _mm256_add_pd(part[1], part[3]));
    const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
  }
};

}  // namespace

GLIMPSE_DEFINE_NORMS(avx2, Vec256, Doubles256)

}  // namespace glimpse
