// Attention around the kernel for AVX-512.
#include "kernels/attention/attention_rows_vector.h"
#include "kernels/attention/attention_vector_avx512.h"

namespace glimpse {

void store_key_groups_avx512(KvElement element, const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim,
                             int64_t d, std::byte* group) {
  store_key_groups<Avx512>(element, rows, ld, n_groups, head_dim, d, group);
}
void store_value_rows_avx512(KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim, int64_t d,
                             std::byte* out) {
  store_value_rows<Avx512>(element, rows, ld, n, head_dim, d, out);
}
void prepare_queries_avx512(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out) {
  prepare_queries<Avx512>(element, q, scale, head_dim, d, out);
}
void merge_attention_avx512(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {
  merge_attention<Avx512>(state, block, n_rows, d);
}
void finish_attention_avx512(const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows) {
  finish_attention<Avx512>(state, n_rows, head_dim, out_rows);
}

}  // namespace glimpse
