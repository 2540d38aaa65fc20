// Activations as products of many rows read them: bfloat16, in the order in which a lane reads them beside its cells of
// weights. Whole rows are made by rows_for_products() (norm.cuh); what a kernel computes for the next product alone, it
// stores this way itself.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/layer_hopper.h"

namespace glimpse::cuda {

/// Where column k lies inside a column tile: element i of step s of cell t, so that the four cells of a row are read
/// side by side. Of gemm.cuh, and of float activations in gemv.cuh.
GLIMPSE_HD constexpr int permuted(int k) {
  return k / kTileColumns * kTileColumns + k % kCell / 4 * 16 + k % kTileColumns / kCell * 4 + k % 4;
}

/// The same for warpgroups: step, then the k of operand A that a lane has in its registers.
GLIMPSE_HD constexpr int tiled_column(int k) {
  const int cell = k % kTileColumns / kCell, step = k % kCell / 4, i = k % 4;
  return k / kTileColumns * kTileColumns + step * 16 + i / 2 * 8 + cell * 2 + i % 2;
}
/// Rows of a tiled matrix of n rows: whole atoms.
GLIMPSE_HD constexpr int64_t tiled_rows(int64_t n) {
  return (n + kAtomRows - 1) / kAtomRows * kAtomRows;
}
/// Element (row, k) of a matrix of n rows: [64 columns][atom of 8 rows][atom_index].
GLIMPSE_HD constexpr int64_t tiled_index(int64_t n, int64_t row, int k) {
  const int column = tiled_column(k);
  return (column / kAtomColumns * tiled_rows(n) + row / kAtomRows * kAtomRows) * kAtomColumns +
         atom_index(static_cast<int>(row % kAtomRows), column % kAtomColumns);
}

GLIMPSE_HD constexpr int64_t operand_index(const OperandView& to, int64_t row, int k) {
  return to.tiled ? tiled_index(to.n, row, k) : row * to.ld + permuted(k);
}

/// Columns [k, k + kValues) of a row, `left` of which exist: the others are stored as zeros. kValues: 2 or 4; k: a
/// multiple of it.
template <int kValues>
GLIMPSE_DEVICE void store_operand(const OperandView& to, int64_t row, int k, int left, const float (&values)[kValues]) {
  uint32_t words[kValues / 2];
  GLIMPSE_UNROLL
  for (int i = 0; i < kValues / 2; ++i) {
    words[i] = pack_bf16(2 * i < left ? values[2 * i] : 0.0f, 2 * i + 1 < left ? values[2 * i + 1] : 0.0f);
  }
  const int64_t at = operand_index(to, row, k);
  if constexpr (kValues == 2) {
    *reinterpret_cast<uint32_t*>(to.data + at) = words[0];
  } else if (to.tiled) {
    // Values 2 and 3 lie in the chunk of 8 beside that of 0 and 1, and chunks are exchanged in pairs.
    *reinterpret_cast<uint32_t*>(to.data + at) = words[0];
    *reinterpret_cast<uint32_t*>(to.data + (at ^ 8)) = words[1];
  } else {
    *reinterpret_cast<Vec8*>(to.data + at) = Vec8{{words[0], words[1]}};
  }
}

/// A row of a tiled matrix of n rows for threads that each have columns 8 e + 2 t and the next, t < 4, of many e:
/// tiled_index() is of_row() of the parity of e, plus of_columns(), which all threads share.
struct TiledRow {
  GLIMPSE_HD static constexpr int64_t of_row(int64_t row, int t, uint32_t parity) {
    return row * kAtomColumns + ((static_cast<int>(parity) * 4 + t) ^ static_cast<int>(row % kAtomRows)) * 8;
  }
  GLIMPSE_HD static constexpr uint32_t of_columns(int64_t n, uint32_t e) {
    return (e / 16 * 2 + e % 4 / 2) * static_cast<uint32_t>(tiled_rows(n) * kAtomColumns) + e / 4 % 4 * 2;
  }
};

}  // namespace glimpse::cuda
