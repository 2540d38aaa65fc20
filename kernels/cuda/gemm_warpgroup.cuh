// Many columns on Hopper: y = W x by products of warpgroups (wgmma). Weights are dequantised in registers on their way
// from global memory and are operand A; activations are operand B, in a ring of stages in shared memory that one thread
// keeps filled with bulk copies. out^T = W x^T, as in gemm.cuh.
//
// A block has two warpgroups that multiply, a warp for one pair of row tiles each, and one that hands over registers,
// of which a warp copies and another asks for weights.
//
// Activations come as rows_tiled() leaves them: what a stage holds is two contiguous pieces of memory, swizzled
// already, so that a copy is a plain one and the launch needs no tensor map. Step s of column tile kt multiplies
// columns 4s..4s+3 of each of the four cells, as in gemm.cuh; tiled_column() puts these 16 where the lane that loaded a
// cell has its part of A.
//
// An output is reduced over k in ascending steps of 16, and long ones chunk by chunk (gemm_chunks.cuh), whatever the
// number of columns, so that the batch does not matter.
//
// Clusters: blocks of neighbouring groups of rows have the same columns, and so the same stages. Where the launch makes
// clusters of two of them, each copies one half of every stage into both rings, and L2 hands out half the bytes. What
// is multiplied, and in which order, is the same: so are the bits. Per stage and phase:
//   full    of each block: one arrival, of the block's own copying thread, which expects the bytes of both halves. The
//           other block's half may come before it does: bytes are counted below zero then, and the phase cannot end
//           without the arrival. It cannot come a phase early: the other block copies when its `empty` says that all
//           have read the stage, and whoever read it has waited for the phase before.
//   empty   of each block: kReaders arrivals from each block, because what the block copies lands in both. A warp
//           arrives at both blocks' barriers. It cannot arrive a phase early, for it then has waited for a half that
//           the barrier's block copied when the phase before was over.
// Both complete a phase for each turn of the ring, so parities are those of a block alone. No block ends before all
// have met at the end: until then the other may arrive at its barriers, and a copy that it started be on its way.
#pragma once

#include "kernels/cuda/cells.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/gemm_chunks.cuh"
#include "kernels/cuda/layer_hopper.h"
#include "kernels/cuda/norm.cuh"

namespace glimpse::cuda {

constexpr int kWgMultipliers = 2 * kWarpgroup;
constexpr int kWgThreads = kWgMultipliers + kWarpgroup;
constexpr int kWgMultiplierRegisters = 232, kWgCopierRegisters = 40;  // of the 168 that 384 threads have each
constexpr int kWgPairs = kWgMultipliers / kWarp;                      // of row tiles per block: 128 rows
constexpr int kWgColumns = 128;                                       // per block, or half or twice as many
// Floats of a column of results; 4 more than its rows, so that columns two apart fall into other banks.
constexpr int kWgResultStride = kWgPairs * 16 + 4;
/// What the shared memory of a block with so many columns holds: a ring of stages, each a tile of 128 values of k, in
/// two halves; at the end results instead; barriers.
template <int kColumns>
struct WgRing {
  static constexpr int kStages = kColumns == 64 ? 6 : kColumns == 128 ? 4 : 3;
  static constexpr int kReaders = kWgMultipliers / kWarp;  // warps that read each stage
  static constexpr bool kShared = kColumns >= 128;         // by clusters; of fewer columns little is copied
  static constexpr int kHalfBytes = kColumns * kAtomColumns * 2;
  static constexpr int kStageBytes = 2 * kHalfBytes;
  static constexpr int kBarriersAt = kStages * kStageBytes;
  // Atoms are aligned to 1024 bytes, shared memory to 128.
  static constexpr int kSharedBytes = kAtomBytes + kBarriersAt + 2 * kStages * static_cast<int>(sizeof(Mbarrier));
  static_assert(kColumns * kWgResultStride * 4 <= kBarriersAt);

  /// Where the block's i-th column tile lies, and the parity of the phase that fills it (or empties it).
  GLIMPSE_HD static constexpr int stage(int i) { return i % kStages; }
  GLIMPSE_HD static constexpr int parity(int i) { return i / kStages % 2; }
};
static_assert(kTileColumns == 2 * kAtomColumns);

/// Rows for these products: tiled; rows that only fill the last atom stay as they are.
struct TiledRows {
  GLIMPSE_DEVICE static void store(const RowsArgs& args, int row, int k, const float (&v)[4][4]) {
    // Of a step, the lanes that loaded the four cells have two registers each: two chunks of 16 bytes.
    const int column = tiled_column(k), chunk = column % kAtomColumns / 8, r = row % kAtomRows;
    uint16_t* const atom =
        args.out + (column / kAtomColumns * tiled_rows(args.n) + row / kAtomRows * kAtomRows) * kAtomColumns;
    GLIMPSE_UNROLL
    for (int i = 0; i < 2; ++i) {
      Vec16 words;
      GLIMPSE_UNROLL
      for (int cell = 0; cell < 4; ++cell) words.w[cell] = pack_bf16(v[cell][2 * i], v[cell][2 * i + 1]);
      *reinterpret_cast<Vec16*>(atom + r * kAtomColumns + ((chunk + i) ^ r) * 8) = words;
    }
  }
};
/// Grid: x: rows_blocks().
GLIMPSE_DEVICE void rows_tiled(const RowsArgs& args) {
  rows_for_products<TiledRows>(args);
}

#if GLIMPSE_HAS_WARPGROUPS

/// The blocks that fill one another's rings, and which of them this is.
struct RingShare {
  int blocks = 1, rank = 0;
};
template <int kColumns>
GLIMPSE_DEVICE RingShare ring_share() {
  if constexpr (WgRing<kColumns>::kShared) return {cluster_blocks(), cluster_rank()};
  return {};
}
/// All threads of the blocks that share rings, of this one alone where it shares none: nobody uses barriers before.
GLIMPSE_DEVICE void meet_before(const RingShare& share) {
  if (share.blocks == 1) return barrier();
  // With fence.mbarrier_init of the thread that initialised them (mbarrier_publish()) either block finds barriers, not
  // garbage, in the other and in itself. The other must also have begun before anything is copied into it.
  cluster_arrive();
  cluster_wait();
}

/// Asks for the weights of a group of pairs to be brought into L2, ascending in k, a lane for each row tile:
/// multipliers load a tile ahead, which is too late for what lies in DRAM.
template <Format format>
GLIMPSE_DEVICE void prefetch_pairs_of_block(const LinearArgs& args, const Segment& s, int expert, int first_pair,
                                            const TileRange& range) {
  constexpr Planes p = planes_of(format);
  const int lane = lane_index(), pair = first_pair + lane / 2;
  if (lane >= 2 * kWgPairs || pair >= s.n_pairs) return;
  const PairTiles tiles = pair_tiles(s, pair);
  const bool second = lane % 2 != 0;
  const WeightView w = weight_of(args, s, second ? tiles.matrix[1] : tiles.matrix[0], expert);
  const int n = w.column_tiles, tile = second ? tiles.tile[1] : tiles.tile[0];
  const auto plane = [&](int kt, int count, int64_t at, int tile_bytes) {
    if (tile_bytes == 0) return;
    prefetch_bulk(w.data + at + (int64_t{tile} * n + kt) * tile_bytes, count * tile_bytes);
  };
  GLIMPSE_NO_UNROLL
  for (int kt = range.begin; kt < range.end; kt += 2) {  // two tiles share the records of super-blocks
    const int count = kt + 2 <= range.end ? 2 : 1;
    plane(kt, count, 0, kCellsPerTile * p.low_bytes());
    plane(kt, count, w.high_at, kCellsPerTile * p.high_bytes());
    plane(kt, count, w.scales_at, p.super ? kTileRows * p.scale_bytes / 2 : kCellsPerTile * p.scale_bytes);
    plane(kt, count, w.d_at, kTileRows * p.d_bytes / 2);
  }
}

/// The warp that copies: its first lane fills the stages, in order, as they become free.
template <int kColumns>
GLIMPSE_DEVICE void fill_ring(const LinearArgs& args, const ColumnGroup& columns, const TileRange& range,
                              const RingShare& share, uint8_t* ring, Mbarrier* full, Mbarrier* empty) {
  using Ring = WgRing<kColumns>;
  if (lane_index() == 0) {
    // Threads initialise barriers in the generic proxy, copies arrive at them in the async one. The initialising thread
    // has fenced its side (mbarrier_publish()); of the other block's barriers this is the copying side.
    if (share.blocks > 1) cluster_fence();
    const int64_t rows = tiled_rows(args.n);
    const int n_bytes = static_cast<int>(tiled_rows(columns.n)) * kAtomColumns * 2;
    const uint16_t* from = args.act + columns.first * kAtomColumns + range.begin * rows * kTileColumns;
    const int n_tiles = range.end - range.begin;
    GLIMPSE_NO_UNROLL
    for (int i = 0; i < n_tiles; ++i) {
      const int stage = Ring::stage(i);
      if (i >= Ring::kStages) {
        // Of a cluster, all warps of the other block have read it, too: the copy lands there as well.
        mbarrier_wait_limited<Ring::kShared>(empty + stage, 1 - Ring::parity(i));
      }
      mbarrier_arrive_expect(full + stage, 2 * n_bytes);
      GLIMPSE_UNROLL
      for (int half = 0; half < 2; ++half) {
        uint8_t* const to = ring + stage * Ring::kStageBytes + half * Ring::kHalfBytes;
        if (share.blocks == 1) {
          bulk_copy(to, from, n_bytes, full + stage);
        } else if (half == share.rank) {
          bulk_copy(to, from, n_bytes, full + stage, 3);
        }
        from += rows * kAtomColumns;
      }
    }
    // Those who multiply wait without a limit: a copy that never comes is seen here.
    mbarrier_wait_limited<Ring::kShared>(full + Ring::stage(n_tiles - 1), Ring::parity(n_tiles - 1));
  }
  warp_barrier();
}

/// A warp of the two warpgroups: its pair of row tiles by the columns of the block, into acc, which is zero.
template <Format format, int kColumns>
GLIMPSE_DEVICE void multiply_ring(const LinearArgs& args, const Segment& s, int expert, int pair,
                                  const TileRange& range, const RingShare& share, const uint8_t* ring, Mbarrier* full,
                                  Mbarrier* empty, float (&acc)[kColumns / 2]) {
  using Ring = WgRing<kColumns>;
  constexpr Planes p = planes_of(format);
  constexpr int kParts = RawCell<format>::kParts, kSteps = RawCell<format>::kSteps;
  constexpr int kGroup = 2;  // products that are closed together
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
  const PairTiles tiles = pair_tiles(s, pair < s.n_pairs ? pair : s.n_pairs - 1);
  CellWalk<format, 1> walk[2];
  RawCell<format> raw[2][kParts];
  const auto load_part = [&](int part) {
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) walk[h].template load<false>(part, raw[h][part]);
  };
  GLIMPSE_UNROLL
  for (int h = 0; h < 2; ++h) {
    walk[h].start(weight_of<kTakesExperts<kColumns>>(args, s, tiles.matrix[h], expert), tiles.tile[h], range.begin, g,
                  t);
  }
  // A lane for each block that fills the ring.
  const bool frees = lane < share.blocks;
  const MbarriersOfBlock freed{empty, share.blocks > 1 && frees ? lane : -1};
  int stage_before = 0;
  const uint32_t zero = static_cast<uint32_t>(range.end) >> 31;
  uint32_t a[2][kGroup][4];                  // of the group under way, of the next
  constexpr bool kChunks = kColumns <= 128;  // wide blocks have no registers for the sums, and one chunk
  float sum[kChunks ? kColumns / 2 : 1] = {};
  GLIMPSE_UNROLL
  for (int part = 0; part < kParts; ++part) load_part(part);
  GLIMPSE_NO_UNROLL
  for (int first = range.begin, last = 0; first < range.end; first = last) {
    last = kChunks && first + range.chunk < range.end ? first + range.chunk : range.end;
    GLIMPSE_NO_UNROLL
    for (int kt = first; kt < last; ++kt) {
      // Integer formats need a cell to the end of its tile, so that the next one is loaded beside it; the parts of
      // others are loaded again as soon as they have been used.
      RawCell<format> whole[2];
      CellScales scales[2];
      walk[0].next(kt);
      walk[1].next(kt);
      if constexpr (p.integer()) {
        GLIMPSE_UNROLL
        for (int h = 0; h < 2; ++h) {
          whole[h] = raw[h][0];
          scales[h] = cell_scales<format>(whole[h], kt % 2 * 4 + t);
        }
        if (kt + 1 < range.end) load_part(0);
      }
      const int i_tile = kt - range.begin, stage = Ring::stage(i_tile);
      const uint64_t b = swizzled_descriptor(shared_address(ring + stage * Ring::kStageBytes));
      GLIMPSE_UNROLL
      for (int group = 0; group < 8 / kGroup; ++group) {
        GLIMPSE_UNROLL
        for (int i = 0; i < kGroup; ++i) {
          const int step = group * kGroup + i;
          GLIMPSE_UNROLL
          for (int h = 0; h < 2; ++h) {
            cell_operand<format>(p.integer() ? whole[h] : raw[h][step / kSteps], scales[h], step % kSteps, zero,
                                 a[group % 2][i][h], a[group % 2][i][2 + h]);
          }
          if constexpr (!p.integer()) {
            if (step % kSteps == kSteps - 1 && kt + 1 < range.end) load_part(step / kSteps);
          }
        }
        if (group == 0) mbarrier_wait<Ring::kShared>(full + stage, Ring::parity(i_tile));
        warpgroup_fence();
        GLIMPSE_UNROLL
        for (int i = 0; i < kGroup; ++i) {
          const int step = group * kGroup + i;
          // 16 values of k are 32 bytes; the second 64 are in the other half.
          warpgroup_mma_bf16(acc, a[group % 2][i], b + (step / 4 * Ring::kHalfBytes + step % 4 * 32) / 16);
        }
        warpgroup_commit();
        warpgroup_wait<1>();
        // What is under way now is of this tile: the stage of the last one is free. Said where it is filled again: then
        // all arrivals have been seen when the last stage is full, and none is on its way to a block that has ended.
        if (group == 0) {
          mbarrier_arrive_if(freed, stage_before, frees && i_tile > 0 && kt + Ring::kStages <= range.end);
          stage_before = stage;
        }
      }
    }
    warpgroup_finish(acc);
    if constexpr (kChunks) {
      if (last < range.end) close_chunk(sum, acc, first == range.begin);
    }
  }
  if constexpr (kChunks) {
    if (range.end - range.begin > range.chunk) add_chunks(sum, acc);
  }
}

/// Results of the multiplying warps: merged with those of other chunks, finished and stored.
template <int kColumns>
GLIMPSE_DEVICE void finish_ring(const LinearArgs& args, const Segment& s, int first_pair, const ColumnGroup& columns,
                                uint8_t* ring, const float (&acc)[kColumns / 2]) {
  const int lane = lane_index(), warp = warp_index(), g = lane / 4, t = lane % 4;
  const auto all = [] { part_barrier(1, kWgMultipliers); };
  all();  // nobody reads the ring any more, and all that was copied into it has been waited for
  // Through shared memory, so that neighbouring threads store neighbouring rows. [column][pair][tile][row]
  auto* const results = reinterpret_cast<float*>(ring);
  GLIMPSE_UNROLL
  for (int j = 0; j < kColumns / 8; ++j) {
    GLIMPSE_UNROLL
    for (int e = 0; e < 4; ++e) {
      results[(j * 8 + 2 * t + e % 2) * kWgResultStride + warp * 16 + e / 2 * 8 + g] = acc[j * 4 + e];
    }
  }
  all();
  if constexpr (kColumns <= 128) {
    if (!merge_chunks<kColumns, kWgPairs, kWgMultipliers>(args, columns.n, results, kWgResultStride, all)) return;
  }
  finish_block<kWgPairs, kWgMultipliers>(args, s, first_pair, columns, results, kWgResultStride);
}

/// Grid: x: groups of kWgPairs pairs of each segment, and one without pairs where clusters want an even number; y:
/// groups of kColumns columns, z: args.n_splits.
template <Format format, int kColumns>
GLIMPSE_DEVICE void gemm_warpgroup(const LinearArgs& args) {
  using Ring = WgRing<kColumns>;
  const int warp = warp_index();
  const RingShare share = ring_share<kColumns>();
  int group = block_x();
  const Segment& s = find_segment<kWgPairs>(args, group);
  const ColumnGroup columns = group_of<kColumns>(args, block_y());
  if (kTakesExperts<kColumns> && columns.n <= 0) return;
  const TileRange range = tile_range(args, s);

  uint8_t* const ring = shared() + (kAtomBytes - shared_address(shared()) % kAtomBytes) % kAtomBytes;
  auto* const full = reinterpret_cast<Mbarrier*>(ring + Ring::kBarriersAt);
  Mbarrier* const empty = full + Ring::kStages;
  if (thread_index() == 0) {
    for (int i = 0; i < Ring::kStages; ++i) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, Ring::kReaders * share.blocks);
    }
    mbarrier_publish();
  }
  meet_before(share);

  if (warp < kWgMultipliers / kWarp) {
    take_registers<kWgMultiplierRegisters>();
    float acc[kColumns / 2] = {};
    multiply_ring<format, kColumns>(args, s, columns.expert, group * kWgPairs + warp, range, share, ring, full, empty,
                                    acc);
    // This thread has waited for all copies into its ring and arrives at no barrier of the ring any more.
    if (share.blocks > 1) cluster_arrive();
    finish_ring<kColumns>(args, s, group * kWgPairs, columns, ring, acc);
  } else {
    give_registers<kWgCopierRegisters>();
    // Two warps, so that the first stages are not filled behind a hundred requests for weights.
    if (warp == kWgMultipliers / kWarp) {
      fill_ring<kColumns>(args, columns, range, share, ring, full, empty);
    } else if (warp == kWgMultipliers / kWarp + 1 && (block_y() == 0 || args.experts.groups != nullptr)) {
      prefetch_pairs_of_block<format>(args, s, columns.expert, group * kWgPairs, range);
    }
    if (share.blocks > 1) cluster_arrive();
  }
  // By now the other block has the last stage that this one copied, and has arrived here for the last time.
  if (share.blocks > 1) cluster_wait();
}

#else

template <Format format, int kColumns>
GLIMPSE_DEVICE void gemm_warpgroup(const LinearArgs&) {
  trap();  // Device::has_warpgroups() is false here
}

#endif

}  // namespace glimpse::cuda
