// Softmax attention for many rows on a cache of 16-bit values or of int8 with scales: prefill and the vision encoder.
// Flash attention with matrix fragments: a block takes 64 query rows of one head, a warp 16 of them, and walks over the
// keys in blocks of 64.
//
// A row's result depends on its query, the keys it sees and nothing else: key blocks start at position 0 and are merged
// in ascending order, whatever the batch. Blocks that a row sees nothing of leave its state as it is, bit for bit.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/operand.cuh"

namespace glimpse::cuda {

constexpr int kTileQueries = 64;
constexpr int kTileKeys = 64;
constexpr int kTileThreads = 128;

/// Bytes of a row in shared memory: 16 more than the values, so that eight rows of 16 bytes fall into all banks.
template <int kDim>
GLIMPSE_HD constexpr int tile_stride() {
  return kDim * 2 + 16;
}
/// Queries, and two stages of keys and values.
template <int kDim>
GLIMPSE_HD constexpr int attend_tiles_shared() {
  return (kTileQueries + 4 * kTileKeys) * tile_stride<kDim>();
}
/// Q8: queries, keys and values that are multiplied, and two stages as the cache has them: codes of keys, of values,
/// then scales of keys, of values. That fits into the same memory.
template <int kDim>
GLIMPSE_HD constexpr int q8_stage_bytes() {
  return 2 * kTileKeys * (kDim + 2 * scale_blocks(kDim));
}
template <int kDim>
GLIMPSE_HD constexpr bool q8_stages_fit() {
  return (kTileQueries + 2 * kTileKeys) * tile_stride<kDim>() + 2 * q8_stage_bytes<kDim>() <=
         attend_tiles_shared<kDim>();
}
static_assert(q8_stages_fit<32>() && q8_stages_fit<64>() && q8_stages_fit<80>() && q8_stages_fit<128>());

/// Rows [first_row, end_row) of a launch, whose keys and values lie in one store.
struct RowSpan {
  KvView kv;
  int64_t first_key, n_past, n_keys;  // as AttentionArgs has them
  int first_row, end_row;
  bool causal;

  /// Keys that a row sees, from first_key on.
  GLIMPSE_DEVICE int64_t visible(int row) const { return causal ? n_past + row - first_row + 1 : n_keys; }
};
/// Those of a block, of whose `rows` rows all belong to one span; `block` becomes its number there.
GLIMPSE_DEVICE RowSpan span_of_block(const AttentionArgs& args, int rows, int& block) {
  const int n_parts = args.more.n;
  RowSpan span{args.kv,
               args.first_key,
               args.at.n_past,
               args.n_keys,
               0,
               n_parts > 0 ? args.more.part[0].first_row : args.n,
               args.causal != 0};
  GLIMPSE_NO_UNROLL
  for (int i = 0; i < n_parts; ++i) {
    const int n_blocks = (span.end_row - span.first_row + rows - 1) / rows;
    if (block < n_blocks) break;
    block -= n_blocks;
    const KvPart& part = args.more.part[i];
    span.kv = of_part(span.kv, part);
    span.first_key = part.first_key, span.n_past = part.n_past, span.n_keys = part.n_keys;
    span.first_row = part.first_row;
    span.end_row = i + 1 < n_parts ? args.more.part[i + 1].first_row : args.n;
  }
  return span;
}

/// What a cache's values are multiplied as.
template <typename T>
struct FragmentOf {
  using Type = T;
};
template <>
struct FragmentOf<Q8> {
  using Type = Half;
};

GLIMPSE_DEVICE uint32_t pack_two(Bf16, float low, float high) {
  return pack_bf16(low, high);
}
GLIMPSE_DEVICE uint32_t pack_two(Half, float low, float high) {
  return pack_half(low, high);
}
GLIMPSE_DEVICE uint32_t pack_weight_pair(Bf16, float low, float high) {
  return pack_bf16(low, high);
}
GLIMPSE_DEVICE uint32_t pack_weight_pair(Half, float low, float high) {
  return pack_half_in_range(low, high);
}
GLIMPSE_DEVICE void multiply_add(Bf16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_bf16(c, a, b);
}
GLIMPSE_DEVICE void multiply_add(Half, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_half(c, a, b);
}

/// A block of attend_tiles: kTileQueries rows of one query head, and the shared memory that it works in.
/// T: Bf16, Half or Q8, of the cache; queries and probabilities are rounded to the first two, with Q8 all values to
/// Half. kDim: a multiple of 16, at least kv.padded_dim.
template <typename T, int kDim>
struct TileBlock {
  static constexpr bool q8 = sizeof(T) == 1;
  static constexpr int stride = tile_stride<kDim>();
  static constexpr int k_steps = kDim / 16, value_tiles = kDim / 8, key_tiles = kTileKeys / 8;
  using F = typename FragmentOf<T>::Type;

  const AttentionArgs& args;
  const RowSpan& span;
  const int head, first_row;
  const int64_t n_keys;       // that the last row sees
  uint8_t* const query_tile;  // [row][stride]
  uint8_t* const stages;      // two of keys and values; Q8: one, and two raw ones behind

  GLIMPSE_DEVICE uint8_t* raw_stage(int block) const {
    return stages + 2 * kTileKeys * stride + block % 2 * q8_stage_bytes<kDim>();
  }
  GLIMPSE_DEVICE uint8_t* stage(int block) const { return q8 ? stages : stages + block % 2 * 2 * kTileKeys * stride; }

  GLIMPSE_DEVICE void load_keys(int block) const {
    const int kv_head = head / args.group, padded = span.kv.padded_dim, blocks = scale_blocks(padded);
    uint8_t* const to = q8 ? raw_stage(block) : stage(block);
    const int64_t first = static_cast<int64_t>(block) * kTileKeys;
    int64_t key_at = span.first_key + first, value_at = key_at;  // in their page
    const T* const key_page = page_of(span.kv, static_cast<const T*>(span.kv.keys), key_at);
    const T* const value_page = page_of(span.kv, static_cast<const T*>(span.kv.values), value_at);
    constexpr int per_piece = 16 / sizeof(T), pieces = kDim / per_piece;
    constexpr int lanes = pieces <= 2 ? 2 : pieces <= 4 ? 4 : pieces <= 8 ? 8 : 16;  // threads that share a row
    constexpr int rows = kTileThreads / lanes;
    constexpr int row_bytes = q8 ? kDim : stride;
    const int piece = thread_index() % lanes, first_of_thread = thread_index() / lanes;
    if (piece < pieces) {
      // Slots that no row sees count as zeros: they may hold anything, and zero times that may be NaN.
      const int seen = n_keys - first < kTileKeys ? static_cast<int>(n_keys - first) : kTileKeys;
      const int count = piece * per_piece < padded ? seen : 0;
      const int64_t at = kv_head * span.kv.capacity * padded + (key_at + first_of_thread) * padded + piece * per_piece;
      const T *key = key_page + at, *value = value_page + at;
      uint8_t* place = to + first_of_thread * row_bytes + piece * 16;
      GLIMPSE_UNROLL
      for (int pass = 0; pass < kTileKeys / rows; ++pass) {
        const bool valid = first_of_thread + pass * rows < count;
        cp_async(place + pass * rows * row_bytes, key, valid);
        cp_async(place + (kTileKeys + pass * rows) * row_bytes, value, valid);
        key += rows * padded, value += rows * padded;
      }
    }
    if constexpr (q8) {
      const int64_t at = (kv_head * span.kv.capacity + key_at) * blocks;
      const int n_bytes = kTileKeys * blocks * 2;
      for (int i = thread_index() * 16; i < n_bytes; i += kTileThreads * 16) {
        uint8_t* const scales = to + 2 * kTileKeys * kDim + i;
        cp_async(scales, cache_scales(span.kv, static_cast<const void*>(key_page)) + at + i / 2, true);
        cp_async(scales + n_bytes, cache_scales(span.kv, static_cast<const void*>(value_page)) + at + i / 2, true);
      }
    }
  }

  /// Q8: a raw stage into the rows that are multiplied, each value rounded once.
  GLIMPSE_DEVICE void unpack_keys(int block) const {
    const int padded = args.kv.padded_dim, blocks = scale_blocks(padded);
    const uint8_t* const from = raw_stage(block);
    const auto* const scales = reinterpret_cast<const uint16_t*>(from + 2 * kTileKeys * kDim);
    constexpr int pieces = kDim / 8;
    for (int i = thread_index(); i < 2 * kTileKeys * pieces; i += kTileThreads) {
      const int row = i / pieces, d = i % pieces * 8;
      const int64_t slot = static_cast<int64_t>(block) * kTileKeys + row % kTileKeys;
      Vec16 packed = {{0, 0, 0, 0}};
      if (d < padded && slot < n_keys) {  // as in load_keys(): a scale may be anything, too
        float x[8];
        scale_eight(*reinterpret_cast<const Vec8*>(from + row * kDim + d),
                    half_bits_to_float(scales[row * blocks + d / kQ8Values]), x);
        GLIMPSE_UNROLL
        for (int j = 0; j < 4; ++j) packed.w[j] = pack_half(x[2 * j], x[2 * j + 1]);
      }
      *reinterpret_cast<Vec16*>(stages + row * stride + d * 2) = packed;
    }
  }

  /// Four dimensions at a time where rows can be read so, all loads of a thread together.
  GLIMPSE_DEVICE void load_queries() const {
    constexpr int fours = kDim / 4;
    const int dim = args.kv.head_dim;
    if (dim % 4 != 0 || args.ld_q % 4 != 0 || reinterpret_cast<uintptr_t>(args.q) % sizeof(Vec16) != 0) {
      return load_queries_in_twos();
    }
    constexpr int turns = kTileQueries * fours / kTileThreads;
    Vec16 q[turns];
    GLIMPSE_UNROLL
    for (int turn = 0; turn < turns; ++turn) {
      const int i = turn * kTileThreads + thread_index(), row = i / fours, d = i % fours * 4;
      const bool there = first_row + row < span.end_row && d < dim;
      q[turn] = *reinterpret_cast<const Vec16*>(args.q + (there ? (first_row + row) * args.ld_q + head * dim + d : 0));
    }
    GLIMPSE_UNROLL
    for (int turn = 0; turn < turns; ++turn) {
      const int i = turn * kTileThreads + thread_index(), row = i / fours, d = i % fours * 4;
      const bool there = first_row + row < span.end_row && d < dim;
      float x[4];
      GLIMPSE_UNROLL
      for (int j = 0; j < 4; ++j) x[j] = there ? bits_to_float(q[turn].w[j]) * args.scale : 0.0f;
      const Vec8 packed = {{pack_two(F{}, x[0], x[1]), pack_two(F{}, x[2], x[3])}};
      *reinterpret_cast<Vec8*>(query_tile + row * stride + d * 2) = packed;
    }
  }
  GLIMPSE_DEVICE void load_queries_in_twos() const {
    const int dim = args.kv.head_dim;
    for (int i = thread_index(); i < kTileQueries * (kDim / 2); i += kTileThreads) {
      const int row = i / (kDim / 2), d = i % (kDim / 2) * 2;
      const bool there = first_row + row < span.end_row;
      const float* const q = args.q + (there ? first_row + row : 0) * args.ld_q + head * dim;
      const float a = there && d < dim ? q[d] * args.scale : 0.0f;
      const float b = there && d + 1 < dim ? q[d + 1] * args.scale : 0.0f;
      *reinterpret_cast<uint32_t*>(query_tile + row * stride + d * 2) = pack_two(F{}, a, b);
    }
  }
  /// Q8: mixed as the keys.
  GLIMPSE_DEVICE void load_mixed_queries() const {
    const int dim = args.kv.head_dim, padded = args.kv.padded_dim;
    const int together = mixed_blocks(padded), parts = (kDim + together * kWarp - 1) / (together * kWarp);
    for (int i = warp_index(); i < kTileQueries * parts; i += kTileThreads / kWarp) {
      const int row = i / parts, first = i % parts * together * kWarp + lane_index();
      const bool there = first_row + row < span.end_row;
      const float* const q = args.q + (there ? first_row + row : 0) * args.ld_q + head * dim;
      float x[kMixedBlocks];
      GLIMPSE_UNROLL
      for (int b = 0; b < kMixedBlocks; ++b) {
        const int d = first + b * kWarp;
        x[b] = there && b < together && d < dim ? q[d] * args.scale * mixing_loss(padded) : 0.0f;
      }
      mix_blocks(x, padded);
      GLIMPSE_UNROLL
      for (int b = 0; b < kMixedBlocks; ++b) {
        const int d = first + b * kWarp;
        if (b >= together || d >= kDim) continue;
        reinterpret_cast<uint16_t*>(query_tile + row * stride)[d] = static_cast<uint16_t>(pack_half(x[b], 0.0f));
      }
    }
  }
};

/// What a warp has of its 16 rows of a head: rows g and g + 8 of its lanes, as fragments hold them; and all of
/// attention but the products.
template <int kDim>
struct TileState {
  static constexpr int value_tiles = kDim / 8, key_tiles = kTileKeys / 8;

  float out[value_tiles][4] = {};
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // sums of this lane's keys
  int visible[2];                                          // keys; a cache of 2^31 would not fit into any device
  int all_visible;                                         // every row of the warp sees at least these

  /// first_row: of the warp.
  GLIMPSE_DEVICE void look(const RowSpan& span, int first_row) {
    GLIMPSE_UNROLL
    for (int r = 0; r < 2; ++r) visible[r] = static_cast<int>(span.visible(first_row + lane_index() / 4 + 8 * r));
    all_visible = static_cast<int>(span.visible(first_row));
  }
  /// first: the number of the tile's first key.
  GLIMPSE_DEVICE void hide_keys(int first, float (&score)[key_tiles][4]) const {
    if (first + kTileKeys <= all_visible) return;
    GLIMPSE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int seen = visible[r] - first - 2 * (lane_index() % 4);
      GLIMPSE_UNROLL
      for (int j = 0; j < key_tiles; ++j) {
        GLIMPSE_UNROLL
        for (int e = 0; e < 2; ++e) {
          if (8 * j + e >= seen) score[j][2 * r + e] = -INFINITY;
        }
      }
    }
  }
  /// Scores become weights relative to the greatest so far; behind it what there is has to follow by `factor`.
  GLIMPSE_DEVICE void weigh_keys(float (&score)[key_tiles][4], float (&factor)[2]) {
    GLIMPSE_UNROLL
    for (int r = 0; r < 2; ++r) {
      float most = max[r];
      GLIMPSE_UNROLL
      for (int j = 0; j < key_tiles; ++j) most = fmaxf(most, fmaxf(score[j][2 * r], score[j][2 * r + 1]));
      most = fmaxf(most, shuffle_xor(most, 1));
      most = fmaxf(most, shuffle_xor(most, 2));
      factor[r] = exp2_fast(max[r] - most);  // 0 in the first block
      max[r] = most;
      sum[r] *= factor[r];
      GLIMPSE_UNROLL
      for (int j = 0; j < key_tiles; ++j) {
        GLIMPSE_UNROLL
        for (int e = 0; e < 2; ++e) {
          score[j][2 * r + e] = exp2_fast(score[j][2 * r + e] - most);
          sum[r] += score[j][2 * r + e];
        }
      }
    }
  }
  /// Behind the first blocks a greater score is rare, and a factor of 1 changes nothing. The sums, which are never
  /// below zero, are asked so that a compiler does not put the question before the exponentials.
  GLIMPSE_DEVICE bool has_to_follow(const float (&factor)[2]) const {
    return ballot(factor[0] != 1.0f || factor[1] != 1.0f || sum[0] + sum[1] < 0) != 0;
  }
  GLIMPSE_DEVICE void follow(const float (&factor)[2]) {
    GLIMPSE_UNROLL
    for (int j = 0; j < value_tiles; ++j) {
      GLIMPSE_UNROLL
      for (int e = 0; e < 4; ++e) out[j][e] *= factor[e / 2];
    }
  }
  /// first_row: of the warp.
  GLIMPSE_DEVICE void store(const AttentionArgs& args, const RowSpan& span, int head, int first_row) const {
    const int dim = args.kv.head_dim, lane = lane_index(), t = lane % 4;
    GLIMPSE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int row = first_row + lane / 4 + 8 * r;
      float total = sum[r];
      total += shuffle_xor(total, 1);
      total += shuffle_xor(total, 2);
      if (row >= span.end_row) continue;
      const float inverse = 1.0f / total;
      // put(j, two): dimensions 8j + 2t and the next.
      const auto each = [&](const auto& put) {
        GLIMPSE_UNROLL
        for (int j = 0; j < value_tiles; ++j) {
          const float two[2] = {out[j][2 * r] * inverse, out[j][2 * r + 1] * inverse};
          if (8 * j + 2 * t < dim) put(j, two);
        }
      };
      const OperandView& operand = args.operand;  // set: dim is even
      if (operand.data != nullptr && operand.tiled && dim % 8 == 0) {
        const auto first = static_cast<uint32_t>(head * (dim / 8));
        uint16_t* even = operand.data + TiledRow::of_row(args.operand_row + row, t, first % 2);
        uint16_t* odd = operand.data + TiledRow::of_row(args.operand_row + row, t, 1 - first % 2);
        GLIMPSE_UNROLL
        for (int j = 0; j < value_tiles; ++j) {
          uint16_t* const at =
              (j % 2 == 0 ? even : odd) + TiledRow::of_columns(operand.n, first + static_cast<uint32_t>(j));
          const uint32_t two = pack_bf16(out[j][2 * r] * inverse, out[j][2 * r + 1] * inverse);
          if (8 * j < dim) *reinterpret_cast<uint32_t*>(at) = two;
        }
      } else if (operand.data != nullptr) {
        each([&](int j, const float(&two)[2]) {
          store_operand<2>(operand, args.operand_row + row, head * dim + 8 * j + 2 * t, 2, two);
        });
      } else {
        float* const to = args.out + row * args.ld_out + head * dim + 2 * t;
        const bool in_twos = dim % 2 == 0 && args.ld_out % 2 == 0 && reinterpret_cast<uintptr_t>(args.out) % 8 == 0;
        each([&](int j, const float(&two)[2]) {
          if (in_twos) {
            *reinterpret_cast<Vec8*>(to + 8 * j) = Vec8{{float_to_bits(two[0]), float_to_bits(two[1])}};
          } else {
            store_rows<2>(to + 8 * j, dim - (8 * j + 2 * t), two);
          }
        });
      }
    }
  }
};
/// A step of 16 keys of a warp's weights as operand A: those of keys 16u to 16u + 15. They are at most 1.
template <typename F, int n>
GLIMPSE_DEVICE void pack_weights(const float (&weight)[n][4], int u, uint32_t (&a)[4]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const float(&two)[4] = weight[2 * u + i / 2];
    a[i] = pack_weight_pair(F{}, two[2 * (i % 2)], two[2 * (i % 2) + 1]);
  }
}

/// The state with products of warps (mma.sync).
template <typename T, int kDim>
struct TileRows : TileState<kDim> {
  using Block = TileBlock<T, kDim>;
  using F = typename Block::F;
  using TileState<kDim>::out, TileState<kDim>::value_tiles, TileState<kDim>::key_tiles;
  static constexpr int stride = Block::stride;

  uint32_t q[Block::k_steps][4];

  GLIMPSE_DEVICE void start(const Block& block) {
    const int lane = lane_index(), warp = warp_index();
    GLIMPSE_UNROLL
    for (int s = 0; s < Block::k_steps; ++s) {
      load_matrices(q[s], block.query_tile + (warp * 16 + lane % 16) * stride + (s * 16 + lane / 16 * 8) * 2);
    }
    this->look(block.span, block.first_row + warp * 16);
  }

  GLIMPSE_DEVICE void score_keys(const uint8_t* key_tile, float (&score)[key_tiles][4]) const {
    const int lane = lane_index();
    GLIMPSE_UNROLL
    for (int s = 0; s < Block::k_steps; ++s) {
      GLIMPSE_UNROLL
      for (int j = 0; j < key_tiles; j += 2) {
        uint32_t k[4];  // keys 8j.. and 8j+8.., dimensions 16s.. and 16s+8..
        load_matrices(k, key_tile + (8 * j + lane / 16 * 8 + lane % 8) * stride + (s * 16 + lane / 8 % 2 * 8) * 2);
        const uint32_t low[2] = {k[0], k[1]}, high[2] = {k[2], k[3]};
        multiply_add(F{}, score[j], q[s], low);
        multiply_add(F{}, score[j + 1], q[s], high);
      }
    }
  }
  GLIMPSE_DEVICE void add_values(const uint8_t* value_tile, const float (&weight)[key_tiles][4]) {
    const int lane = lane_index();
    GLIMPSE_UNROLL
    for (int u = 0; u < kTileKeys / 16; ++u) {
      uint32_t p[4];
      pack_weights<F>(weight, u, p);
      GLIMPSE_UNROLL
      for (int j = 0; j < value_tiles; j += 2) {
        uint32_t v[4];  // keys 16u.. and 16u+8.., dimensions 8j.. and 8j+8..
        load_matrices_transposed(v, value_tile + (16 * u + lane % 16) * stride + (8 * j + lane / 16 * 8) * 2);
        const uint32_t low[2] = {v[0], v[1]}, high[2] = {v[2], v[3]};
        multiply_add(F{}, out[j], p, low);
        multiply_add(F{}, out[j + 1], p, high);
      }
    }
  }
};

/// Grid: x: groups of 64 rows of each span, y: query heads.
template <typename T, int kDim>
GLIMPSE_DEVICE void attend_tiles(const AttentionArgs& args) {
  using Block = TileBlock<T, kDim>;
  int number = block_x();
  const RowSpan span = span_of_block(args, kTileQueries, number);
  const int first_row = span.first_row + number * kTileQueries;
  const int last_row = first_row + kTileQueries < span.end_row ? first_row + kTileQueries - 1 : span.end_row - 1;
  const Block block{
      args, span, block_y(), first_row, span.visible(last_row), shared(), shared() + kTileQueries * Block::stride};
  const int n_tiles = static_cast<int>((block.n_keys + kTileKeys - 1) / kTileKeys);
  block.load_keys(0);
  cp_async_commit();
  if constexpr (Block::q8) {
    block.load_mixed_queries();
  } else {
    block.load_queries();
  }
  barrier();
  TileRows<T, kDim> rows;
  rows.start(block);
  for (int tile = 0; tile < n_tiles; ++tile) {
    if (tile + 1 < n_tiles) block.load_keys(tile + 1);
    cp_async_commit();
    cp_async_wait<1>();
    barrier();
    if constexpr (Block::q8) {
      block.unpack_keys(tile);
      barrier();
    }
    const uint8_t* const keys = block.stage(tile);
    float score[Block::key_tiles][4] = {};
    rows.score_keys(keys, score);
    rows.hide_keys(tile * kTileKeys, score);
    float factor[2];
    rows.weigh_keys(score, factor);
    if (rows.has_to_follow(factor)) rows.follow(factor);
    rows.add_values(keys + kTileKeys * Block::stride, score);
    if constexpr (!Block::q8) barrier();  // the stage is free; Q8: it was after unpack_keys()
  }
  rows.store(args, span, block.head, first_row + warp_index() * 16);
}

}  // namespace glimpse::cuda
