// The int8 segment's conversion, compiled for AVX-512.
#include "kernels/attention/attention_int8_segment.h"

namespace glimpse {

Int8Estimate estimate_int8_avx512(const SegmentQueries& queries, int64_t head_dim, int64_t n_keys,
                                  const std::byte* keys, const std::byte* values, std::byte* scratch) {
  return estimate_segment(queries, head_dim, n_keys, keys, values, scratch);
}
void quantize_segment_avx512(int64_t head_dim, int64_t n_keys, std::byte* keys, std::byte* values, std::byte* scratch) {
  convert_segment(head_dim, n_keys, keys, values, scratch);
}
void prepare_queries_int8_avx512(const float* const* q_rows, int64_t n_rows, int64_t head_dim, const std::byte* keys,
                                 void* out) {
  prepare_rows(q_rows, n_rows, head_dim, keys, out);
}

}  // namespace glimpse
