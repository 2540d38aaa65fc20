// Conversion of activations with AVX-512.
#include "kernels/matmul/act_quantize_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

struct Quantizer : Vec512 {
  static GLIMPSE_INLINE int32_t reduce_max(I v) { return _mm512_reduce_max_epi32(v); }

  /// Bits of floats to bfloat16, round to nearest even; NaN is made quiet (half.h, float_to_bf16).
  static GLIMPSE_INLINE void store_bf16(std::byte* to, I bits) {
    const I odd = and_(srl(bits, 16), set32(1));
    const I rounded = srl(add32(add32(bits, set32(0x7fff)), odd), 16);
    const __mmask16 nan = _mm512_cmpgt_epi32_mask(and_(bits, set32(0x7fffffff)), set32(0x7f800000));
    const I result = _mm512_mask_or_epi32(rounded, nan, srl(bits, 16), set32(0x40));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(result));
  }

  /// 32 floats to int8 and the sums of each 16.
  static GLIMPSE_INLINE void quantize32(std::byte* to, const float* x, F inverse, int32_t* sums) {
    for (int h = 0; h < 2; ++h) {
      const I q = _mm512_cvtps_epi32(mul(load_f(x + 16 * h), inverse));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16 * h), _mm512_cvtepi32_epi8(q));
      sums[h] = _mm512_reduce_add_epi32(q);
    }
  }
};

}  // namespace

void quantize_act_avx512(const ActView& view, int64_t column, const float* x) {
  convert_row<Quantizer>(view, column, x);
}

}  // namespace glimpse
