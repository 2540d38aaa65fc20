// Conversion of activations with AVX-512.
#include "kernels/matmul/act_quantize_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

struct Quantizer : Vec512 {
  static GLIMPSE_INLINE int32_t reduce_max(I v) { return _mm512_reduce_max_epi32(v); }

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

  /// 16 floats to int8, and to integers.
  static GLIMPSE_INLINE I quantize16(std::byte* to, const float* x, F inverse) {
    const I q = _mm512_cvtps_epi32(mul(load_f(x), inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(q));
    return q;
  }
  static GLIMPSE_INLINE I add_sums(I a, I b) { return add32(a, b); }
  static GLIMPSE_INLINE int32_t sum_of(I words) { return _mm512_reduce_add_epi32(words); }
};

}  // namespace

void quantize_act_avx512(const ActView& view, int64_t column, const float* x) {
  convert_row<Quantizer>(view, column, x);
}

}  // namespace glimpse
