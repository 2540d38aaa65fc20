// Many columns: y = W x in bfloat16 matrix fragments with float accumulation; weights are dequantised in registers on
// their way from global memory, activations come as bfloat16 through shared memory.
//
// out^T = W x^T: a fragment's 16 rows are rows g of the two tiles of a pair, its columns of k those that a lane's cells
// hold: step s of column tile kt multiplies column 4s + i of each of the four cells (permuted() orders the activations
// so). A lane therefore dequantises only what it loaded, and ends with row g of both tiles of a pair.
// An output is reduced over k in ascending steps whatever the number of columns, so that the batch does not matter.
#pragma once

#include "kernels/cuda/cells.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/gemv.cuh"

namespace glimpse::cuda {

constexpr int kGemmThreads = 256;
constexpr int kGemmPairs = 8;      // of row tiles per block: 128 rows
constexpr int kGemmColumns = 128;  // per block
constexpr int kGemmStages = 2;
// Bytes of a column's 128 values in shared memory. 32 more than a multiple of 128, so that the 8-byte reads of eight
// columns and four cells fall into all banks.
constexpr int kGemmStride = kTileColumns * 2 + 32;
constexpr int kGemmSharedBytes = kGemmStages * kGemmColumns * kGemmStride;
// Floats of a column of results; 4 more than its rows, so that columns two apart fall into other banks.
constexpr int kResultStride = kGemmPairs * 16 + 4;
static_assert(kGemmColumns * kResultStride * 4 <= kGemmSharedBytes);

/// A warp's sums into shared memory: [column][pair][tile of the pair][row]; results: of its first column and pair.
template <int kFragments, int kColumnTiles>
GLIMPSE_DEVICE void leave_results(const float (&acc)[kFragments][kColumnTiles][4], float* results) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  GLIMPSE_UNROLL
  for (int f = 0; f < kFragments; ++f) {
    GLIMPSE_UNROLL
    for (int j = 0; j < kColumnTiles; ++j) {
      GLIMPSE_UNROLL
      for (int e = 0; e < 4; ++e) {
        results[(j * 8 + 2 * t + e % 2) * kResultStride + f * 16 + e / 2 * 8 + g] = acc[f][j][e];
      }
    }
  }
}

/// Grid: x: groups of kGemmPairs pairs of each segment, y: groups of kGemmColumns columns.
template <Format format>
GLIMPSE_DEVICE void gemm(const LinearArgs& args) {
  constexpr Planes p = planes_of(format);
  constexpr int kFragments = 2;    // pairs per warp
  constexpr int kColumnTiles = 8;  // of 8 columns per warp
  constexpr int kParts = RawCell<format>::kParts, kSteps = RawCell<format>::kSteps;
  const int lane = lane_index(), warp = warp_index(), g = lane / 4, t = lane % 4;

  int group = block_x();
  const Segment& s = find_segment<kGemmPairs>(args, group);
  const ColumnGroup columns = group_of<kGemmColumns>(args, block_y());
  if (columns.n <= 0) return;
  const int first_pair = group * kGemmPairs + warp % 4 * kFragments;
  const int warp_column = warp / 4 * kColumnTiles * 8;
  const int k_tiles = s.w[0].column_tiles;

  uint8_t* const stages = shared();
  const auto load_columns = [&](int kt) {
    uint8_t* const stage = stages + kt % kGemmStages * kGemmColumns * kGemmStride;
    for (int i = thread_index(); i < kGemmColumns * 16; i += kGemmThreads) {
      const bool valid = i / 16 < columns.n;
      const int column = valid ? columns.first + i / 16 : 0;
      const uint16_t* from = args.act + column * args.ld_act + kt * kTileColumns + i % 16 * 8;
      cp_async(stage + i / 16 * kGemmStride + i % 16 * 16, from, valid);
    }
  };

  // Tiles of the warp's pairs; a pair past the end repeats the last and is not stored.
  PairTiles tiles[kFragments];
  GLIMPSE_UNROLL
  for (int f = 0; f < kFragments; ++f) {
    tiles[f] = pair_tiles(s, first_pair + f < s.n_pairs ? first_pair + f : s.n_pairs - 1);
  }
  RawCell<format> next[kFragments][2];
  const auto load_weights = [&](int kt, int part) {
    GLIMPSE_UNROLL
    for (int f = 0; f < kFragments; ++f) {
      GLIMPSE_UNROLL
      for (int h = 0; h < 2; ++h) {
        load_cell<format, false>(weight_of(args, s, tiles[f].matrix[h], columns.expert), tiles[f].tile[h], kt, part, g,
                                 t, next[f][h]);
      }
    }
  };

  float acc[kFragments][kColumnTiles][4] = {};
  load_columns(0);
  cp_async_commit();
  load_weights(0, 0);
  for (int kt = 0; kt < k_tiles; ++kt) {
    if (kt + 1 < k_tiles) load_columns(kt + 1);
    cp_async_commit();
    cp_async_wait<1>();
    barrier();
    const uint8_t* const stage =
        stages + kt % kGemmStages * kGemmColumns * kGemmStride + (warp_column + g) * kGemmStride + t * 8;
    GLIMPSE_UNROLL
    for (int part = 0; part < kParts; ++part) {
      RawCell<format> raw[kFragments][2];
      CellScales scales[kFragments][2];
      GLIMPSE_UNROLL
      for (int f = 0; f < kFragments; ++f) {
        GLIMPSE_UNROLL
        for (int h = 0; h < 2; ++h) {
          raw[f][h] = next[f][h];
          if constexpr (p.integer()) scales[f][h] = cell_scales<format>(raw[f][h], kt % 2 * 4 + t);
        }
      }
      if (part + 1 < kParts) {
        load_weights(kt, part + 1);
      } else if (kt + 1 < k_tiles) {
        load_weights(kt + 1, 0);
      }
      GLIMPSE_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        uint32_t a[kFragments][4];
        GLIMPSE_UNROLL
        for (int f = 0; f < kFragments; ++f) {
          GLIMPSE_UNROLL
          for (int h = 0; h < 2; ++h) {
            cell_operand<format>(raw[f][h], scales[f][h], step, 0, a[f][h], a[f][2 + h]);
          }
        }
        GLIMPSE_UNROLL
        for (int j = 0; j < kColumnTiles; ++j) {
          const Vec8 x = *reinterpret_cast<const Vec8*>(stage + j * 8 * kGemmStride + (part * kSteps + step) * 32);
          const uint32_t b[2] = {x.w[0], x.w[1]};
          GLIMPSE_UNROLL
          for (int f = 0; f < kFragments; ++f) mma_bf16(acc[f][j], a[f], b);
        }
      }
    }
    barrier();  // the stage is free
  }

  // Through shared memory, so that neighbouring threads store neighbouring rows.
  auto* const results = reinterpret_cast<float*>(stages);
  leave_results(acc, results + warp_column * kResultStride + warp % 4 * kFragments * 16);
  barrier();
  finish_block<kGemmPairs, kGemmThreads>(args, s, group * kGemmPairs, columns, results, kResultStride);
}

}  // namespace glimpse::cuda
