// The per-ISA functions behind attention.h, and the scratch layout that the vector kernels share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace glimpse {

#define GLIMPSE_KERNEL(isa, element, function)                                                                  \
  void function(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values, \
                int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch);
#include "kernels/attention/attention_kernels.inc"

#define GLIMPSE_ATTENTION_ROW_FUNCTIONS(isa)                                                                          \
  void merge_attention_##isa(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d);    \
  void finish_attention_##isa(const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows); \
  void prepare_queries_##isa(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out);
GLIMPSE_ATTENTION_ROW_FUNCTIONS(ref)
GLIMPSE_ATTENTION_ROW_FUNCTIONS(avx2)
GLIMPSE_ATTENTION_ROW_FUNCTIONS(avx512)
#undef GLIMPSE_ATTENTION_ROW_FUNCTIONS

// Bulk stores of the vector ISAs, not of kQ8_0. Keys: n_groups whole groups of 16 positions, `group` the first group's
// start in the panels. Values: n rows; `out` is where the first pair (bf16) or row starts, n even for bf16.
#define GLIMPSE_ATTENTION_STORE_FUNCTIONS(isa)                                                                      \
  void store_key_groups_##isa(KvElement element, const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim, \
                              int64_t d, std::byte* group);                                                         \
  void store_value_rows_##isa(KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim,        \
                              int64_t d, std::byte* out);
GLIMPSE_ATTENTION_STORE_FUNCTIONS(avx2)
GLIMPSE_ATTENTION_STORE_FUNCTIONS(avx512)
#undef GLIMPSE_ATTENTION_STORE_FUNCTIONS

/// What queries are multiplied by, so that a weight is two to the power of its score.
float score_scale(int64_t head_dim);

/// Query rows that a vector kernel carries through scores, softmax and output together: their scores of a block of 256
/// keys (8 KiB) and probabilities stay in L1, and 8 is what one pass over the keys can hold in registers.
constexpr int kRowGroup = 8;

/// Few query rows (decode) wait for memory: the panels, read once, are asked for this far ahead, into L2. The hardware
/// prefetchers stop at every page, and 16 keys of 128 dimensions are one page. Measured on Zen 4 with 6 rows of 128:
/// 13.6 GB/s without, 19 to 21 GB/s with 8 to 32 KiB, no gain when the lines are asked into L1.
constexpr int64_t kPrefetchBytes = 16384;

/// One head's queries lie whole rows apart, each in a few lines of its own that nothing brings in time.
constexpr int64_t kQueriesAhead = 8;
[[gnu::always_inline]] inline void prefetch_query(const float* q, int64_t head_dim) {
  for (int64_t c = 0; c < head_dim; c += 16) __builtin_prefetch(q + c);
}

/// Scratch of the vector kernels, in bytes from its start; d is a multiple of 16, so every part is 64-byte aligned.
constexpr int64_t kScratchMax = 0;                                       // (8) float: maxima of the block
constexpr int64_t kScratchSum = 64;                                      // (8) float: sums of the block
constexpr int64_t kScratchScores = 128;                                  // (8, 256) float
constexpr int64_t kScratchProbabilities = kScratchScores + 8 * 256 * 4;  // (8, 256) bf16 or int16
constexpr int64_t kScratchScales = kScratchProbabilities + 8 * 256 * 2;  // (256) float: scales of int8 values
constexpr int64_t kScratchAcc = kScratchScales + 256 * 4;                // (8, d) float: output of the block
// behind it: (8, d) float, queries widened to float

}  // namespace glimpse
