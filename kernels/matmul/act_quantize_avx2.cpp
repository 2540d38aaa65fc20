// Conversion of activations with AVX2.
#include "kernels/matmul/act_quantize_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

struct Quantizer : Vec256 {
  static GLIMPSE_INLINE int32_t reduce_max(I v) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtsi128_si32(m);
  }

  /// The value of lane i ^ step.
  template <int step>
  static GLIMPSE_INLINE F partner(F v) {
    if constexpr (step == 1) return _mm256_permute_ps(v, 0xb1);
    if constexpr (step == 2) return _mm256_permute_ps(v, 0x4e);
    return _mm256_permute2f128_ps(v, v, 0x01);
  }

  /// Bits of floats to bfloat16, round to nearest even; NaN is made quiet (half.h, float_to_bf16).
  static GLIMPSE_INLINE void store_bf16(std::byte* to, I bits) {
    const I odd = and_(srl(bits, 16), set32(1));
    const I rounded = srl(add32(add32(bits, set32(0x7fff)), odd), 16);
    const I nan = _mm256_cmpgt_epi32(and_(bits, set32(0x7fffffff)), set32(0x7f800000));
    const I result = _mm256_blendv_epi8(rounded, or_(srl(bits, 16), set32(0x40)), nan);
    const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  }

  /// 16 floats to int8, and to 8 sums of two.
  static GLIMPSE_INLINE __m128i quantize16(std::byte* to, const float* x, F inverse) {
    const I a = _mm256_cvtps_epi32(mul(load_f(x), inverse));
    const I b = _mm256_cvtps_epi32(mul(load_f(x + 8), inverse));
    const __m128i a16 = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i b16 = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_packs_epi16(a16, b16));
    return _mm_add_epi16(a16, b16);
  }
  static GLIMPSE_INLINE int32_t sum_of(__m128i words) {
    __m128i sum = _mm_madd_epi16(words, _mm_set1_epi16(1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
  }
  static GLIMPSE_INLINE __m128i add_sums(__m128i a, __m128i b) { return _mm_add_epi16(a, b); }
};

}  // namespace

void quantize_act_avx2(const ActView& view, int64_t column, const float* x) {
  convert_row<Quantizer>(view, column, x);
}

}  // namespace glimpse
