// Conversion of activations with AVX2.
#include "kernels/matmul/act_quantize_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

struct Quantizer : Vec256 {
  template <class Op>
  static GLIMPSE_INLINE __m256i fold(I v, Op) {
    return v;
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

  /// 32 floats, those of `usable` lanes, to int8; sums: partial ones of the first and of the last 16.
  static GLIMPSE_INLINE void quantize32(std::byte* to, const float* x, F inverse, I usable, I& first, I& last) {
    I q[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(mul(as_float(and_(load(x + 8 * i), usable)), inverse));
    first = add32(q[0], q[1]);
    last = add32(q[2], q[3]);
    const I bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    const I order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32(bytes, order));
  }
};

}  // namespace

void quantize_act_avx2(const ActView& view, int64_t column, const float* x) {
  convert_row<Quantizer>(view, column, x);
}

}  // namespace glimpse
