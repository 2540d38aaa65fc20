// Row by row: packing, embedding look-up, rows for the matrix-matrix kernels, rotation and SwiGLU where they are not
// fused, and the search for NaN.
#pragma once

#include "kernels/cuda/cache.cuh"
#include "kernels/cuda/cells.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/weight_pack.h"

namespace glimpse::cuda {

constexpr int kRowThreads = 256;

/// Grid: x: rows of args.padded_rows. Threads take the cells of a row.
template <Format format>
GLIMPSE_DEVICE void pack_rows(const PackArgs& args) {
  const int row = block_x();
  const uint8_t* const from = row < args.n_rows ? args.from + row * args.row_bytes : nullptr;
  GLIMPSE_NO_UNROLL
  for (int cell = thread_index(); cell < args.w.column_tiles * 4; cell += n_threads()) {
    pack_cell<format>(from, args.first_row + row, cell, args.w, args.to);
  }
}

/// x[row] = row ids[row] of the table.
template <Format format>
GLIMPSE_DEVICE void embed_row(const EmbedArgs& args, int row) {
  const int id = args.ids[row * args.id_stride];
  if (id < 0 || id >= args.table.rows) return;
  float* const x = args.x + row * args.ld;
  GLIMPSE_NO_UNROLL
  for (int cell = thread_index(); cell < args.table.column_tiles * 4; cell += n_threads()) {
    const int row_tile = id / kTileRows, column_tile = cell / 4;
    GLIMPSE_NO_UNROLL
    for (int part = 0; part < RawCell<format>::kParts; ++part) {
      RawCell<format> raw;
      load_cell<format, false>(args.table, row_tile, column_tile, part, id % kTileRows, cell % 4, raw);
      const CellScales scales = cell_scales<format>(raw, cell % 8);
      GLIMPSE_UNROLL
      for (int step = 0; step < RawCell<format>::kSteps; ++step) {
        float w[4];
        cell_floats<format>(raw, scales, step, w);
        GLIMPSE_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int column = cell * kCell + (part * RawCell<format>::kSteps + step) * 4 + i;
          if (column < args.table.cols) x[column] = w[i];
        }
      }
    }
  }
}

/// Grid: x: rows.
template <Format format>
GLIMPSE_DEVICE void embed(const EmbedArgs& args) {
  launch_dependents();
  dependency_wait();
  embed_row<format>(args, block_x());
}

/// Rows for gemm.cuh: permuted inside each 128 columns.
struct PermutedRows {
  GLIMPSE_DEVICE static void store(const RowsArgs& args, int row, int k, const float (&v)[4][4]) {
    auto* const to = reinterpret_cast<Vec16*>(args.out + row * args.ld_out + permuted(k));
    GLIMPSE_UNROLL
    for (int i = 0; i < 2; ++i) {
      to[i] = Vec16{{pack_bf16(v[2 * i][0], v[2 * i][1]), pack_bf16(v[2 * i][2], v[2 * i][3]),
                     pack_bf16(v[2 * i + 1][0], v[2 * i + 1][1]), pack_bf16(v[2 * i + 1][2], v[2 * i + 1][3])}};
    }
  }
};
/// Grid: x: rows_blocks().
GLIMPSE_DEVICE void rows_bf16(const RowsArgs& args) {
  rows_for_products<PermutedRows>(args);
}

GLIMPSE_DEVICE void rope_row(const RopeArgs& args, int row) {
  const int half = args.kv.head_dim / 2;
  KvView kv;
  const int64_t slot = find_slot(args, args.at, row, kv), angle = rope_row_of(args.at, row);
  const float* const cosine = args.cos + angle * args.ld_rope;
  const float* const sine = args.sin + angle * args.ld_rope;
  normalize_heads(args, row);
  rotate_queries(args, row, cosine, sine);
  for (int i = thread_index(); i < args.kv.n_heads * half; i += n_threads()) {
    const float* const at = args.keys + row * args.ld_keys + i / half * 2 * half + i % half;
    float a = at[0], b = at[half];
    rotate(cosine[i % half], sine[i % half], a, b);
    store_kv(kv, kv.keys, i / half, slot, i % half, a);
    store_kv(kv, kv.keys, i / half, slot, i % half + half, b);
  }
  if (args.values == nullptr) return;
  for (int i = thread_index(); i < args.kv.n_heads * 2 * half; i += n_threads()) {
    store_kv(kv, kv.values, i / (2 * half), slot, i % (2 * half), args.values[row * args.ld_keys + i]);
  }
}

GLIMPSE_DEVICE void levels_to_floats(const LevelArgs& args) {
  const int64_t step = static_cast<int64_t>(grid_x()) * n_threads();
  for (int64_t i = static_cast<int64_t>(block_x()) * n_threads() + thread_index(); i < args.n; i += step) {
    args.out[i] = args.levels[i / args.run % 3 * 256 + args.bytes[i]];
  }
}

/// Grid: x: rows.
GLIMPSE_DEVICE void rope_rows(const RopeArgs& args) {
  launch_dependents();
  dependency_wait();
  rope_row(args, block_x());
}

GLIMPSE_DEVICE void swiglu_row(const IntoRowsArgs& args, int row) {
  const float* const gate = args.from + row * args.ld_from;
  float* const out = args.to + row * args.ld_to;
  for (int i = thread_index(); i < args.width; i += n_threads()) out[i] = silu(gate[i]) * out[i];
}

/// Grid: x: rows.
GLIMPSE_DEVICE void swiglu_rows(const IntoRowsArgs& args) {
  launch_dependents();
  dependency_wait();
  swiglu_row(args, block_x());
}

/// Grid: x: rows, y: pieces of as many columns as a block has threads. Weighted pieces are summed in ascending order.
GLIMPSE_DEVICE void add_rows(const IntoRowsArgs& args) {
  launch_dependents();
  dependency_wait();
  const int i = block_y() * n_threads() + thread_index();
  if (i >= args.width) return;
  const float* const from = args.from + block_x() * args.ld_from + i;
  float sum = 0;
  if (args.weights == nullptr) sum = *from;
  GLIMPSE_UNROLL_BY(4)
  for (int s = 0; s < args.n_slots; ++s) {
    sum = fmaf(args.weights[block_x() * args.ld_weights + s], from[int64_t{s} * args.width], sum);
  }
  args.to[block_x() * args.ld_to + i] += sum;
}

GLIMPSE_DEVICE void find_non_finite(const FiniteArgs& args) {
  bool bad = false;
  for (int64_t i = static_cast<int64_t>(block_x()) * n_threads() + thread_index(); i < args.rows * args.cols;
       i += static_cast<int64_t>(grid_x()) * n_threads()) {
    const uint32_t bits = float_to_bits(args.x[i / args.cols * args.ld + i % args.cols]);
    bad |= (bits & 0x7f800000u) == 0x7f800000u;
  }
  if (ballot(bad) != 0 && lane_index() == 0) atomic_or(args.flag, 1);
}

}  // namespace glimpse::cuda
