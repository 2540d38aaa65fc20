// Activations as matmul kernels read them. Read by ISA-specific files: plain data only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glimpse {

/// What a kernel wants its activations to be.
enum class ActFormat {
  kF32,           // float rows
  kBf16,          // bfloat16 rows, round to nearest even
  kInt8x32,       // int8, one float scale per 32 (weights in blocks of 32: the precision of ggml's Q8_0 companion)
  kInt8x32Mixed,  // kInt8x32 of values that were mixed by mix_block() (weights of kI8x32, which are mixed likewise)
  kInt8x128K,     // the same with the sums that K-quants need; ggml's companion, Q8_K, has one scale per 256
};

/// n columns (tokens) of k activations each, in one format. A column is one record of row_bytes bytes, 64-byte
/// aligned, so that a kernel reaches everything of a column from one pointer:
///   at 0             k_padded values: float, bf16 or int8; the padding is zero
///   at scales_at     int8: float scales, one per 32 or 128 values
///   at bias32_at     int8: int32, -128 * (sum of 32 quantised values): what an accumulator starts from
///   when the
///                    weights are stored with an offset of 128 (other offsets: shifted right)
///   at bias16_at     kInt8x128K: int32, -128 * (sum of 16 quantised values)
///   at sums32_at     kInt8x128K: int16, sums of 32 quantised values
///   at sums16_at     kInt8x128K: int16, sums of 16 quantised values
/// k_padded is a multiple of 256, so that kernels may read whole groups. row_bytes is never a multiple of 4096: columns
/// of a tile would fall into the same cache sets.
struct ActView {
  ActFormat format = ActFormat::kF32;
  int64_t n = 0;
  int64_t k = 0;
  int64_t k_padded = 0;
  int64_t row_bytes = 0;
  int64_t scales_at = 0;
  int64_t bias32_at = 0;
  int64_t bias16_at = 0;
  int64_t sums32_at = 0;
  int64_t sums16_at = 0;
  std::byte* data = nullptr;
};

}  // namespace glimpse
