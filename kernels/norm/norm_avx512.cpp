// Norms for AVX-512: eight lanes of doubles per part.
#include "kernels/norm/norm_isa.h"
#include "kernels/norm/norm_vector.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

// The masked extracts keep GCC 12 from warning about its own header.
struct Doubles512 {
  using D = __m512d;

  // Zero from `count` on.
  static inline void load(const float* x, int64_t count, D* out) {
    const __m512 v = load_row_avx512(x, count);
    out[0] = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    out[1] = _mm512_cvtps_pd(_mm512_maskz_extractf32x8_ps(0xff, v, 1));
  }
  static inline D add(D a, D b) { return _mm512_add_pd(a, b); }
  static inline D fma(D a, D b, D c) { return _mm512_fmadd_pd(a, b, c); }
  // v - center, zero in the lanes of part j (elements 8 j to 8 j + 7) from `count` on.
  static inline D sub_below(D v, double center, int64_t count, int j) {
    return _mm512_maskz_sub_pd(static_cast<__mmask8>(lanes_below_avx512(count) >> (8 * j)), v, _mm512_set1_pd(center));
  }
  static inline double total(const D* part) {
    const D s8 = _mm512_add_pd(part[0], part[1]);
    const __m256d s4 =
        _mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xf, s8, 0), _mm512_maskz_extractf64x4_pd(0xf, s8, 1));
    const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
  }
};

}  // namespace

GLIMPSE_DEFINE_NORMS(avx512, Vec512, Doubles512)

}  // namespace glimpse
