// Attention on the int8 store for AVX-512 without VNNI.
#include <immintrin.h>

#include "kernels/attention/attention_q8_vector.h"
#include "kernels/attention/attention_q8_vector_avx512.h"

namespace glimpse {
namespace {

struct Avx512Q8 : Avx512Q8Base {
  struct Key {
    I magnitude;
    __mmask64 negative;
  };
  static inline Key load_key(const std::byte* p) {
    const I key = _mm512_load_si512(p);
    return {_mm512_abs_epi8(key), _mm512_movepi8_mask(key)};
  }
  static inline I dot_start(const int32_t*) { return zero(); }
  // Two products of magnitudes up to 127 fit into 16 bits.
  static inline I dot4(I acc, Key key, I query) {
    const I pairs = _mm512_maddubs_epi16(key.magnitude, _mm512_mask_sub_epi8(query, key.negative, zero(), query));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  static inline I dot2(I acc, I value, I weight) { return _mm512_add_epi32(acc, _mm512_madd_epi16(value, weight)); }
};

}  // namespace

void attention_q8_avx512(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                         int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  q8_attend_any<Avx512Q8>(queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}

}  // namespace glimpse
