// Vector operations of the attention kernels: AVX-512 without BF16, 16 lanes, 32 registers. Internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/attention/attention_isa.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

struct Avx512 : Vec512 {
  static constexpr int kScoreRows = 8;  // 8 x 2 accumulators hide the latency of the FMA (4 cycles, 2 pipes)
  static constexpr int kScoreVectors = 2;
  static constexpr int kValueVectors = 4;  // 4 x 4, 6 x 4 where one value vector is live at a time
  static constexpr int kValueRows = 6;

  static GLIMPSE_INLINE void load_bf16_pair(const std::byte* p, F& low, F& high) {
    const __m512i words = _mm512_load_si512(p);
    low = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    high = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static GLIMPSE_INLINE F load_bf16(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static GLIMPSE_INLINE F round_to_bf16(F x) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(round_bf16_avx512(x), _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static GLIMPSE_INLINE float first(F x) { return _mm512_cvtss_f32(x); }
  /// See attention_vector_avx2.h.
  static GLIMPSE_INLINE void store_saturated_f16(std::byte* p, F x) {
    const F clamped = min(set_f(65504.0f), max(set_f(-65504.0f), x));
    const F kept = _mm512_mask_mov_ps(clamped, _mm512_fpclass_ps_mask(x, 0x18), x);
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(kept, _MM_FROUND_TO_NEAREST_INT));
  }
  static GLIMPSE_INLINE void store_bf16(uint16_t* p, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), pack_bf16_avx512(x));
  }
  static GLIMPSE_INLINE I pack_bf16_pairs(F first, F second) { return pack_bf16_avx512(first, second); }
  static GLIMPSE_INLINE I interleave_bf16(F low, F high) {
    return or_(srl(round_bf16_avx512(low), 16), as_int(round_to_bf16(high)));
  }
  static GLIMPSE_INLINE void transpose(I* rows) { transpose_avx512(rows); }
  static GLIMPSE_INLINE void merge(const AttentionState& state, const AttentionState& block, int64_t n_rows,
                                   int64_t d) {
    merge_attention_avx512(state, block, n_rows, d);
  }
};

}  // namespace
}  // namespace glimpse
