// What the AVX-512 kernels of the int8 store share. Internal linkage.
#pragma once

#include <immintrin.h>

#include "kernels/attention/attention_vector_avx512.h"

namespace glimpse {
namespace {

struct Avx512Q8Base : Avx512 {
  template <int R>
  static constexpr int score_vectors() {
    return R <= 2 ? 4 : R <= 6 ? 2 : 1;  // 6 rows: 12 integer and 12 float accumulators
  }
  static inline I load_widened(const std::byte* p) {
    return _mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
  }
  // Not the unmasked intrinsic: GCC 12 calls its undefined pass-through uninitialised.
  static inline F to_float(I x) { return _mm512_maskz_cvtepi32_ps(0xffff, x); }
  static inline I max_unsigned(I a, I b) { return _mm512_max_epu32(a, b); }
  static inline uint32_t reduce_max_unsigned(I x) { return _mm512_reduce_max_epu32(x); }
  static inline void store_int16(int16_t* p, F x) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
  }
};

}  // namespace
}  // namespace glimpse
