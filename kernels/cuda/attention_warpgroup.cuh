// Softmax attention for many rows on Hopper: that of attention_tiles.cuh by products of warpgroups (wgmma), on a cache
// of 16-bit values.
//
// A block takes 128 query rows of one head. Two warpgroups multiply, 64 rows each; a third keeps a ring of stages of 64
// keys and values filled. Queries and weights are operand A, in registers; keys are operand B as they lie, rows along
// k; values are it transposed. Rows of a cache are no whole atoms and have no swizzle, so that they come by cp.async
// with the address of each 16 bytes.
//
// The scores of a block of keys are on their way while the block before it becomes weights, and the values before that
// are added meanwhile: tensor cores wait for nobody unless both warpgroups do.
//
// Blocks of keys, steps of 16 in a product and the order of sums are those of attend_tiles: what holds of a row's bits
// there holds here.
#pragma once

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/layer_hopper.h"

namespace glimpse::cuda {

constexpr int kAwMultipliers = 2 * kWarpgroup;
constexpr int kAwThreads = kAwMultipliers + kWarpgroup;
constexpr int kAwQueries = 128;  // rows of a block: 64 of each warpgroup that multiplies
constexpr int kAwMultiplierRegisters = 224, kAwCopierRegisters = 56;  // of the 168 that 384 threads have each

/// The shared memory of a block: a ring of stages, in each the keys of a tile and behind them its values; barriers.
template <int kDim>
struct AwRing {
  using Tile = Panels<kTileKeys, kDim>;
  static constexpr int kStages = kDim > 80 ? 6 : 8;
  static constexpr int kStageBytes = 2 * Tile::kBytes;
  static constexpr int kBarriersAt = kStages * kStageBytes;
  static constexpr int kSharedBytes = kAtomBytes + kBarriersAt + 2 * kStages * static_cast<int>(sizeof(Mbarrier));
  /// Tiles that a thread copies ahead of the one that it hands over. Those who multiply hold three stages.
  static constexpr int kAhead = 2;
  static_assert(kStages >= kAhead + 3);
  static_assert(Tile::kBytes % kAtomBytes == 0);

  uint8_t* stages;
  Mbarrier *full, *empty;  // of each stage
};
/// A place in the ring, and the parity of the phase that fills it.
template <int kStages>
struct RingPlace {
  int stage = 0, parity = 0;

  GLIMPSE_HD constexpr void next() {
    const bool around = ++stage == kStages;
    stage = around ? 0 : stage;
    parity ^= around ? 1 : 0;
  }
};

#if GLIMPSE_HAS_WARPGROUPS

template <bool transposed, bool add, int n>
GLIMPSE_DEVICE void warpgroup_multiply(Bf16, float (&d)[n], const uint32_t (&a)[4], uint64_t b) {
  warpgroup_mma_bf16<transposed, add>(d, a, b);
}
template <bool transposed, bool add, int n>
GLIMPSE_DEVICE void warpgroup_multiply(Half, float (&d)[n], const uint32_t (&a)[4], uint64_t b) {
  warpgroup_mma_half<transposed, add>(d, a, b);
}
/// Fragments side by side, as products of warpgroups have them.
template <int n>
GLIMPSE_DEVICE float (&flat(float (&fragments)[n][4]))[4 * n] {
  return reinterpret_cast<float(&)[4 * n]>(fragments);
}

/// The warpgroup that copies: each of its threads the same pieces of 16 bytes of every tile.
template <typename T, int kDim>
GLIMPSE_DEVICE void fill_stages(const RowSpan& span, int kv_head, int64_t n_keys, int n_tiles,
                                const AwRing<kDim>& ring) {
  using Ring = AwRing<kDim>;
  constexpr int kPieces = kDim / 8, kTurns = kTileKeys * kPieces / kWarpgroup;
  const int thread = thread_index() % kWarpgroup, padded = span.kv.padded_dim;
  int to[kTurns];  // in its stage
  GLIMPSE_UNROLL
  for (int turn = 0; turn < kTurns; ++turn) {
    const int i = turn * kWarpgroup + thread;
    to[turn] = Ring::Tile::chunk_at(i / kPieces, i % kPieces);
  }
  RingPlace<Ring::kStages> at, done;
  GLIMPSE_NO_UNROLL
  for (int tile = 0; tile < n_tiles + Ring::kAhead; ++tile) {
    if (tile < n_tiles) {
      if (tile >= Ring::kStages) mbarrier_wait_limited(ring.empty + at.stage, 1 - at.parity);
      const int64_t first = static_cast<int64_t>(tile) * kTileKeys;
      int64_t key_at = span.first_key + first, value_at = key_at;  // in their page
      const T* key = page_of(span.kv, static_cast<const T*>(span.kv.keys), key_at);
      const T* value = page_of(span.kv, static_cast<const T*>(span.kv.values), value_at);
      key += (kv_head * span.kv.capacity + key_at) * padded;
      value += (kv_head * span.kv.capacity + value_at) * padded;
      // Slots that no row sees count as zeros: they may hold anything, and zero times that may be NaN.
      const int seen = n_keys - first < kTileKeys ? static_cast<int>(n_keys - first) : kTileKeys;
      uint8_t* const stage = ring.stages + at.stage * Ring::kStageBytes;
      if (seen == kTileKeys && padded == kDim) {  // as below, but all addresses are one and a constant
        GLIMPSE_UNROLL
        for (int turn = 0; turn < kTurns; ++turn) {
          cp_async(stage + to[turn], key + thread * 8 + turn * kWarpgroup * 8, true);
          cp_async(stage + Ring::Tile::kBytes + to[turn], value + thread * 8 + turn * kWarpgroup * 8, true);
        }
      } else {
        GLIMPSE_UNROLL
        for (int turn = 0; turn < kTurns; ++turn) {
          const int i = turn * kWarpgroup + thread, row = i / kPieces, piece = i % kPieces;
          const bool valid = row < seen && piece * 8 < padded;
          const int from = valid ? row * padded + piece * 8 : 0;
          cp_async(stage + to[turn], key + from, valid);
          cp_async(stage + Ring::Tile::kBytes + to[turn], value + from, valid);
        }
      }
      at.next();
    }
    cp_async_commit();
    if (tile >= Ring::kAhead) {
      cp_async_wait<Ring::kAhead>();
      shared_fence();
      warp_barrier();
      if (lane_index() == 0) mbarrier_arrive(ring.full + done.stage);
      done.next();
    }
  }
}

/// A warp of those that multiply, and its 16 rows of a head.
template <typename T, int kDim>
struct WarpgroupRows : TileState<kDim> {
  using Ring = AwRing<kDim>;
  using Tile = typename Ring::Tile;
  using TileState<kDim>::out, TileState<kDim>::value_tiles, TileState<kDim>::key_tiles;
  using Scores = float[key_tiles][4];

  uint32_t q[kDim / 16][4];
  uint32_t weights[kTileKeys / 16][4];

  const Ring& ring;
  const uint64_t keys, values;                  // of the first stage
  RingPlace<Ring::kStages> scored;              // of the last tile whose scores were asked for
  int weighed = 0, before = Ring::kStages - 1;  // stages of the tile that becomes weights, and of the one before it

  GLIMPSE_DEVICE explicit WarpgroupRows(const Ring& r)
      : ring(r),
        keys(Tile::by_rows(shared_address(r.stages))),
        values(Tile::by_columns(shared_address(r.stages) + Tile::kBytes)) {}

  /// first_row: of the warp.
  GLIMPSE_DEVICE void load_queries(const AttentionArgs& args, const RowSpan& span, int head, int first_row) {
    const int dim = args.kv.head_dim, lane = lane_index(), column = lane % 4 * 2;
    float two[2][kDim / 8][2];  // of a row, dimensions 8j + column and the next
    const float* from[2];
    bool there[2];
    GLIMPSE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int row = first_row + lane / 4 + 8 * r;
      there[r] = row < span.end_row;
      from[r] = args.q + (there[r] ? row : 0) * args.ld_q + head * dim;
    }
    if (dim % 2 == 0 && args.ld_q % 2 == 0 && reinterpret_cast<uintptr_t>(args.q) % sizeof(Vec8) == 0) {
      GLIMPSE_UNROLL
      for (int j = 0; j < kDim / 4; ++j) {
        const int d = 8 * (j / 2) + column;
        const Vec8 v = *reinterpret_cast<const Vec8*>(from[j % 2] + (d < dim ? d : 0));
        two[j % 2][j / 2][0] = bits_to_float(v.w[0]), two[j % 2][j / 2][1] = bits_to_float(v.w[1]);
      }
    } else {
      GLIMPSE_UNROLL
      for (int j = 0; j < kDim / 2; ++j) {
        const int d = 8 * (j / 4) + column + j % 2;
        two[j / 2 % 2][j / 4][j % 2] = from[j / 2 % 2][d < dim ? d : 0];
      }
    }
    GLIMPSE_UNROLL
    for (int j = 0; j < kDim / 8; ++j) {
      const int d = 8 * j + column;
      GLIMPSE_UNROLL
      for (int r = 0; r < 2; ++r) {
        const float a = there[r] && d < dim ? two[r][j][0] * args.scale : 0.0f;
        const float b = there[r] && d + 1 < dim ? two[r][j][1] * args.scale : 0.0f;
        q[j / 2][j % 2 * 2 + r] = pack_two(T{}, a, b);
      }
    }
  }

  /// Starts to score the keys of the stage at `scored`.
  GLIMPSE_DEVICE void score_keys(Scores& score) {
    mbarrier_wait(ring.full + scored.stage, scored.parity);
    const uint64_t b = keys + static_cast<uint64_t>(scored.stage * Ring::kStageBytes / 16);
    warpgroup_fence();
    warpgroup_multiply<false, false>(T{}, flat(score), q[0], b);
    GLIMPSE_UNROLL
    for (int s = 1; s < kDim / 16; ++s) {
      warpgroup_multiply<false, true>(T{}, flat(score), q[s], b + Tile::column_step(s));
    }
    warpgroup_commit();
  }
  /// Starts to add the values of the stage `weighed`.
  GLIMPSE_DEVICE void add_values() {
    const uint64_t b = values + static_cast<uint64_t>(weighed * Ring::kStageBytes / 16);
    warpgroup_fence();
    GLIMPSE_UNROLL
    for (int u = 0; u < kTileKeys / 16; ++u) {
      warpgroup_multiply<true, true>(T{}, flat(out), weights[u], b + Tile::row_step(u));
    }
    warpgroup_commit();
  }

  /// The first tile, waited for, because there are no values before it behind it. (In their place an empty group would
  /// do; then ptxas waits after each product.)
  GLIMPSE_DEVICE void begin(Scores& score) {
    score_keys(score);
    warpgroup_finish(flat(score));
  }
  /// Tile `tile`, whose scores are on their way, and behind them the values of the one before it. Not kLast: those of
  /// the next one are asked for first.
  template <bool kLast>
  GLIMPSE_DEVICE void step(int tile, Scores& score, Scores& next) {
    if constexpr (!kLast) {
      scored.next();
      score_keys(next);
    }
    warpgroup_wait<kLast ? 1 : 2>(flat(score));
    this->hide_keys(tile * kTileKeys, score);
    float factor[2];
    this->weigh_keys(score, factor);
    // Values are waited for in both branches: in front of them ptxas would wait ahead of the exponentials.
    if (this->has_to_follow(factor)) {
      warpgroup_wait<kLast ? 0 : 1>(flat(out));
      this->follow(factor);
    } else {
      warpgroup_wait<kLast ? 0 : 1>(flat(out));
    }
    if (tile > 0 && lane_index() == 0) mbarrier_arrive(ring.empty + before);
    GLIMPSE_UNROLL
    for (int u = 0; u < kTileKeys / 16; ++u) pack_weights<T>(score, u, weights[u]);
    add_values();
    before = weighed;
    weighed = scored.stage;
  }
};

/// A warpgroup that multiplies.
template <typename T, int kDim>
GLIMPSE_DEVICE void attend_rows_of_warpgroup(const AttentionArgs& args, const RowSpan& span, int head, int first_row,
                                             int n_tiles, const AwRing<kDim>& ring) {
  WarpgroupRows<T, kDim> rows(ring);
  rows.load_queries(args, span, head, first_row);
  rows.look(span, first_row);
  float score[2][kTileKeys / 8][4];  // of even tiles, of odd ones
  rows.begin(score[0]);
  int tile = 0;
  GLIMPSE_NO_UNROLL
  for (; tile + 2 < n_tiles; tile += 2) {
    rows.template step<false>(tile, score[0], score[1]);
    rows.template step<false>(tile + 1, score[1], score[0]);
  }
  if (tile + 1 < n_tiles) {
    rows.template step<false>(tile, score[0], score[1]);
    rows.template step<true>(tile + 1, score[1], score[0]);
  } else {
    rows.template step<true>(tile, score[0], score[1]);
  }
  warpgroup_finish(flat(rows.out));
  rows.store(args, span, head, first_row);
}

/// Grid: x: groups of kAwQueries rows of each span, y: query heads.
template <typename T, int kDim>
GLIMPSE_DEVICE void attend_warpgroup(const AttentionArgs& args) {
  // The rows that see most keys first, so that the last blocks are short ones.
  int number = grid_x() - 1 - block_x();
  const RowSpan span = span_of_block(args, kAwQueries, number);
  const int head = block_y(), first_row = span.first_row + number * kAwQueries;
  const int last_row = first_row + kAwQueries < span.end_row ? first_row + kAwQueries - 1 : span.end_row - 1;
  const int64_t n_keys = span.visible(last_row);
  const int n_tiles = n_keys > kTileKeys ? static_cast<int>((n_keys + kTileKeys - 1) / kTileKeys) : 1;
  const int n_multiply = span.end_row - first_row > kAwQueries / 2 ? 2 : 1;  // warpgroups that have rows
  uint8_t* const stages = shared() + (kAtomBytes - shared_address(shared()) % kAtomBytes) % kAtomBytes;
  auto* const full = reinterpret_cast<Mbarrier*>(stages + AwRing<kDim>::kBarriersAt);
  const AwRing<kDim> ring{stages, full, full + AwRing<kDim>::kStages};
  if (thread_index() == 0) {
    for (int i = 0; i < AwRing<kDim>::kStages; ++i) {
      mbarrier_init(ring.full + i, kWarpgroup / kWarp);
      mbarrier_init(ring.empty + i, n_multiply * (kWarpgroup / kWarp));
    }
    mbarrier_publish();
  }
  barrier();
  const int group = warp_index() / (kWarpgroup / kWarp);
  if (group == 2) {
    give_registers<kAwCopierRegisters>();
    fill_stages<T, kDim>(span, head / args.group, n_keys, n_tiles, ring);
  } else if (group < n_multiply) {
    take_registers<kAwMultiplierRegisters>();
    attend_rows_of_warpgroup<T, kDim>(args, span, head, first_row + warp_index() * 16, n_tiles, ring);
  }
}

#else

template <typename T, int kDim>
GLIMPSE_DEVICE void attend_warpgroup(const AttentionArgs&) {
  trap();  // Device::has_warpgroups() is false here
}

#endif

}  // namespace glimpse::cuda
