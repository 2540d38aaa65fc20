// Float attention for AVX-512 without BF16: 16 lanes, 32 registers.
#include "kernels/attention/attention_fma.h"
#include "kernels/attention/attention_vector_avx512.h"

namespace glimpse {

void attention_bf16_avx512(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                           const std::byte* values, int64_t key_begin, const int32_t* n_visible,
                           const AttentionState& state, std::byte* scratch) {
  attend_any<Avx512, KvElement::kBf16>(queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}

void attention_f16_avx512(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                          const std::byte* values, int64_t key_begin, const int32_t* n_visible,
                          const AttentionState& state, std::byte* scratch) {
  attend_any<Avx512, KvElement::kF16>(queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}

void attention_f32_avx512(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                          const std::byte* values, int64_t key_begin, const int32_t* n_visible,
                          const AttentionState& state, std::byte* scratch) {
  attend_any<Avx512, KvElement::kF32>(queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}

}  // namespace glimpse
