// Sixteen rows side by side, in registers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glimpse {

/// rows: 16 rows of n_words 32-bit words, row_bytes apart, any alignment -> out: [word][16 rows]. n_words: a multiple
/// of 16.
void transpose_words_avx512(const std::byte* rows, uint64_t row_bytes, int64_t n_words, std::byte* out);

}  // namespace glimpse
