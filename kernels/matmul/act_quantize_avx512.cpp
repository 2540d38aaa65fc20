// Conversion of activations with AVX-512.
#include "kernels/matmul/act_quantize_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

struct Quantizer : Vec512 {
  template <class Op>
  static GLIMPSE_INLINE __m256i fold(I v, Op op) {
    return op(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  }

  /// The value of lane i ^ step.
  template <int step>
  static GLIMPSE_INLINE F partner(F v) {
    if constexpr (step == 1) return _mm512_permute_ps(v, 0xb1);
    if constexpr (step == 2) return _mm512_permute_ps(v, 0x4e);
    if constexpr (step == 4) return _mm512_shuffle_f32x4(v, v, 0xb1);
    return _mm512_shuffle_f32x4(v, v, 0x4e);
  }

  /// Bits of floats to bfloat16, round to nearest even; NaN is made quiet (half.h, float_to_bf16).
  static GLIMPSE_INLINE void store_bf16(std::byte* to, I bits) {
    const I odd = and_(srl(bits, 16), set32(1));
    const I rounded = srl(add32(add32(bits, set32(0x7fff)), odd), 16);
    const __mmask16 nan = _mm512_cmpgt_epi32_mask(and_(bits, set32(0x7fffffff)), set32(0x7f800000));
    const I result = _mm512_mask_or_epi32(rounded, nan, srl(bits, 16), set32(0x40));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(result));
  }

  /// 32 floats, those of `usable` lanes, to int8; sums: partial ones of the first and of the last 16.
  static GLIMPSE_INLINE void quantize32(std::byte* to, const float* x, F inverse, I usable, I& first, I& last) {
    first = _mm512_cvtps_epi32(mul(as_float(and_(load(x), usable)), inverse));
    last = _mm512_cvtps_epi32(mul(as_float(and_(load(x + 16), usable)), inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(first));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), _mm512_cvtepi32_epi8(last));
  }
};

}  // namespace

void quantize_act_avx512(const ActView& view, int64_t column, const float* x) {
  convert_row<Quantizer>(view, column, x);
}

}  // namespace glimpse
