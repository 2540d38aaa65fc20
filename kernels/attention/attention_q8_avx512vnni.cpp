// Attention on the int8 store for AVX-512 VNNI.
#include <immintrin.h>

#include "kernels/attention/attention_q8_vector.h"
#include "kernels/attention/attention_q8_vector_avx512.h"

namespace glimpse {
namespace {

struct Avx512VnniQ8 : Avx512Q8Base {
  using Key = I;
  // The instruction multiplies unsigned by signed: keys go in as key + 128, which adds 128 times the queries' sum.
  static inline Key load_key(const std::byte* p) {
    return _mm512_xor_si512(_mm512_load_si512(p), _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  static inline I dot_start(const int32_t* start) { return _mm512_set1_epi32(*start); }
  static inline I dot4(I acc, Key key, I query) { return _mm512_dpbusd_epi32(acc, key, query); }
  static inline I dot2(I acc, I value, I weight) { return _mm512_dpwssd_epi32(acc, value, weight); }
};

}  // namespace

void attention_q8_avx512vnni(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                             const std::byte* values, int64_t key_begin, const int32_t* n_visible,
                             const AttentionState& state, std::byte* scratch) {
  q8_attend_any<Avx512VnniQ8>(queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}

}  // namespace glimpse
