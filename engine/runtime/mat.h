// Views of float matrices in a backend's memory.
#pragma once

#include <cstdint>

namespace glimpse {

class PackedWeight;

/// A (rows, cols) float matrix, row stride ld, in the memory of the backend that made it (host memory for the CPU
/// backends, device memory for CUDA). Does not own.
struct Mat {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t ld = 0;
  /// When set, nobody reads the values but products with this weight, which are given the same Mat: what makes them may
  /// leave them in this memory in a form of its own. Parts of a Mat have it not.
  const PackedWeight* read_by = nullptr;

  static Mat contiguous(float* data, int64_t rows, int64_t cols) { return {data, rows, cols, cols}; }
  float* row(int64_t i) const { return data + i * ld; }
  /// Rows [first, first + count).
  Mat slice(int64_t first, int64_t count) const { return {data + first * ld, count, cols, ld}; }
  /// Columns [first, first + count) of every row.
  Mat columns(int64_t first, int64_t count) const { return {data + first, rows, count, ld}; }
  /// The same memory with `group` rows joined into one; needs ld == cols.
  Mat join_rows(int64_t group) const { return {data, rows / group, cols * group, cols * group}; }
};

}  // namespace glimpse
