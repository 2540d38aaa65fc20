// Attention on the int8 store for AVX2.
#include <immintrin.h>

#include "kernels/attention/attention_q8_vector.h"
#include "kernels/attention/attention_vector_avx2.h"

namespace glimpse {
namespace {

struct Avx2Q8 : Avx2 {
  struct Key {
    I magnitude, key;
  };
  template <int R>
  static constexpr int score_vectors() {
    return R <= 2 ? 2 : 1;  // 4 rows: 4 integer and 4 float accumulators
  }
  static inline Key load_key(const std::byte* p) {
    const I key = _mm256_load_si256(reinterpret_cast<const I*>(p));
    return {_mm256_abs_epi8(key), key};
  }
  static inline I dot_start(const int32_t*) { return zero(); }
  // Two products of magnitudes up to 127 fit into 16 bits.
  static inline I dot4(I acc, Key key, I query) {
    const I pairs = _mm256_maddubs_epi16(key.magnitude, _mm256_sign_epi8(query, key.key));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static inline I load_widened(const std::byte* p) {
    return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static inline I dot2(I acc, I value, I weight) { return _mm256_add_epi32(acc, _mm256_madd_epi16(value, weight)); }
  static inline I max_unsigned(I a, I b) { return _mm256_max_epu32(a, b); }
  static inline uint32_t reduce_max_unsigned(I x) {
    __m128i y = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_max_epu32(y, _mm_unpackhi_epi64(y, y));
    y = _mm_max_epu32(y, _mm_shuffle_epi32(y, 1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(y));
  }
  static inline void store_int16(int16_t* p, F x) {
    const I words = _mm256_cvtps_epi32(x);
    _mm_store_si128(reinterpret_cast<__m128i*>(p),
                    _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
};

}  // namespace

void attention_q8_avx2(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                       int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  q8_attend_any<Avx2Q8>(queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}

}  // namespace glimpse
