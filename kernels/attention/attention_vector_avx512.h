// Vector operations of the attention kernels: AVX-512 without BF16, 16 lanes, 32 registers. Internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/attention/attention_isa.h"
#include "kernels/simd/exp2_avx512.h"
#include "kernels/simd/row_avx512.h"

namespace glimpse {
namespace {

struct Avx512 {
  using V = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kScoreRows = 8;  // 8 x 2 accumulators hide the latency of the FMA (4 cycles, 2 pipes)
  static constexpr int kScoreVectors = 2;
  static constexpr int kValueVectors = 4;  // 4 x 4, 6 x 4 where one value vector is live at a time
  static constexpr int kValueRows = 6;

  static inline V zero() { return _mm512_setzero_ps(); }
  static inline V broadcast(float x) { return _mm512_set1_ps(x); }
  static inline V load(const float* p) { return _mm512_load_ps(p); }
  static inline V load_f32(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
  static inline void store(float* p, V x) { _mm512_store_ps(p, x); }
  static inline void load_bf16_pair(const std::byte* p, V& low, V& high) {
    const __m512i words = _mm512_load_si512(p);
    low = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    high = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static inline V load_bf16(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static inline V load_f16(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static inline V round_to_bf16(V x) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(round_bf16_avx512(x), _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
  static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static inline V max(V a, V b) { return _mm512_max_ps(a, b); }
  static inline V exp2_nonpositive(V x) { return exp2_nonpositive_avx512(x); }
  static inline V first_lanes(V x, int64_t count, float rest) {
    return _mm512_mask_mov_ps(_mm512_set1_ps(rest), lanes_below_avx512(count), x);
  }
  static inline float reduce_max(V x) { return _mm512_reduce_max_ps(x); }
  static inline float reduce_add(V x) { return _mm512_reduce_add_ps(x); }
  static inline void merge(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {
    merge_attention_avx512(state, block, n_rows, d);
  }
};

}  // namespace
}  // namespace glimpse
