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

  /// Bits of floats to bfloat16, round to nearest even; NaN is made quiet (half.h, float_to_bf16).
  static GLIMPSE_INLINE void store_bf16(std::byte* to, I bits) {
    const I odd = and_(srl(bits, 16), set32(1));
    const I rounded = srl(add32(add32(bits, set32(0x7fff)), odd), 16);
    const I nan = _mm256_cmpgt_epi32(and_(bits, set32(0x7fffffff)), set32(0x7f800000));
    const I result = _mm256_blendv_epi8(rounded, or_(srl(bits, 16), set32(0x40)), nan);
    const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  }

  /// 32 floats to int8 and the sums of each 16.
  static GLIMPSE_INLINE void quantize32(std::byte* to, const float* x, F inverse, int32_t* sums) {
    for (int h = 0; h < 2; ++h) {
      const I a = _mm256_cvtps_epi32(mul(load_f(x + 16 * h), inverse));
      const I b = _mm256_cvtps_epi32(mul(load_f(x + 16 * h + 8), inverse));
      const __m128i a16 = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
      const __m128i b16 = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16 * h), _mm_packs_epi16(a16, b16));
      __m128i sum = _mm_madd_epi16(_mm_add_epi16(a16, b16), _mm_set1_epi16(1));
      sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
      sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
      sums[h] = _mm_cvtsi128_si32(sum);
    }
  }
};

}  // namespace

void quantize_act_avx2(const ActView& view, int64_t column, const float* x) {
  convert_row<Quantizer>(view, column, x);
}

}  // namespace glimpse
