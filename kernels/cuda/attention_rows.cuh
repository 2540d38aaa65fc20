// Softmax attention row by row: decode, and every case with a float cache. Each block takes one row, one key/value head
// and the query heads that share it, so that keys and values are read once for all of them.
//
// Keys go in chunks of 128. Within a chunk a thread owns a key: score = sum over dimensions, ascending. Chunks are
// merged in ascending order with one formula, whether one block walks over them or each has a block of its own and the
// last to finish merges: the bits are the same, and depend on nothing but the row and the keys it sees.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/cache.cuh"

namespace glimpse::cuda {

constexpr int kChunkKeys = 128;
constexpr int kAttendThreads = kChunkKeys;

struct AttendShared {
  int scores_at = 0, acc_at = 0, state_at = 0, total = 0;  // floats at 0: queries (heads, dim)
};
GLIMPSE_HD AttendShared attend_shared(int n_heads, int padded_dim) {
  AttendShared s;
  s.scores_at = n_heads * padded_dim * 4;
  s.acc_at = s.scores_at + n_heads * kChunkKeys * 4;
  s.state_at = s.acc_at + n_heads * padded_dim * 4;
  s.total = s.state_at + (2 * n_heads + 1) * 4;
  return s;
}

/// Weights of a running softmax state and a further chunk in their sum; both maxima become the greater.
struct MergeWeights {
  float state, chunk;
};
GLIMPSE_DEVICE MergeWeights merge_maxima(float& max, float chunk_max) {
  const float greater = fmaxf(max, chunk_max);
  const MergeWeights w{exp2_fast(max - greater), exp2_fast(chunk_max - greater)};
  max = greater;
  return w;
}
GLIMPSE_DEVICE float merge_values(const MergeWeights& w, float state, float chunk) {
  return fmaf(state, w.state, chunk * w.chunk);
}

GLIMPSE_DEVICE int64_t visible_keys(const AttentionArgs& args, int row) {
  return args.causal != 0 ? slot_of(args.at, row) + 1 : args.n_keys;
}

/// The keys that a row sees: n_keys from first_key on.
struct SeenKeys {
  KvView kv;
  int64_t first_key, n_keys;
};
GLIMPSE_DEVICE SeenKeys seen_keys(const AttentionArgs& args, int row) {
  SeenKeys seen{args.kv, args.first_key, visible_keys(args, row)};
  GLIMPSE_NO_UNROLL
  for (int i = 0; i < args.more.n && row >= args.more.part[i].first_row; ++i) {
    const KvPart& part = args.more.part[i];
    seen.kv = of_part(seen.kv, part);
    if (args.at.steps != nullptr) continue;
    seen.first_key = part.first_key;
    seen.n_keys = args.causal != 0 ? part.n_past + row - part.first_row + 1 : part.n_keys;
  }
  return seen;
}

/// What a thread of a recorded step has in registers before the launch ahead has ended, of the block's first chunk: its
/// key, and its dimensions of the values of its half of the keys. All that earlier steps wrote, which is all but the
/// last.
template <typename T, int kHeads>
struct EarlyRows {
  static constexpr bool kThere = false;
  static constexpr int n = 0;
  GLIMPSE_DEVICE void load(const AttentionArgs&, int, int, int) {}
};
template <typename T>
requires(sizeof(T) == 2) struct EarlyRows<T, 1> {
  static constexpr bool kThere = true;
  static constexpr int kHalf = kChunkKeys / 2;
  int n = 0;  // keys of the chunk that are here
  Vec16 key[kMaxHeadDim / 8] = {};
  uint32_t value[kHalf] = {};

  GLIMPSE_DEVICE void load_key(const CacheRow<T>& from, int padded) {
    GLIMPSE_UNROLL
    for (int i = 0; i < kMaxHeadDim / 8; ++i) {
      if (8 * i < padded) key[i] = reinterpret_cast<const Vec16*>(from.at)[i];
    }
  }
  GLIMPSE_DEVICE void load(const AttentionArgs& args, int row, int kv_head, int split) {
    if (args.at.steps == nullptr || args.causal == 0) return;
    const SeenKeys seen = seen_keys(args, row);
    const int64_t first = args.n_splits > 1 ? static_cast<int64_t>(split) * kChunkKeys : 0,
                  old = seen.n_keys - 1 - first;
    n = old < 0 ? 0 : old < kChunkKeys ? static_cast<int>(old) : kChunkKeys;
    const int me = thread_index(), pair = me % kHalf, begin = me / kHalf * kHalf, padded = args.kv.padded_dim;
    if (me < n) load_key(CacheRow<T>(seen.kv, seen.kv.keys, kv_head, seen.first_key + first + me, 0), padded);
    if (begin >= n || 2 * pair >= padded) return;
    CacheRow<T> from(seen.kv, seen.kv.values, kv_head, seen.first_key + first + begin, 2 * pair);
    GLIMPSE_UNROLL
    for (int i = 0; i < kHalf; ++i, from.next(args.kv)) {
      if (begin + i < n) value[i] = *reinterpret_cast<const uint32_t*>(from.at);
    }
  }
};

/// Mixes queries (kHeads, padded) in shared memory as keys of kQ8_0 are (mix_blocks()), where few registers are free.
template <int kHeads>
GLIMPSE_DEVICE void mix_queries(float* queries, int padded) {
  const int n = mixed_channels(padded);
  GLIMPSE_NO_UNROLL
  for (int step = 1; step < n; step *= 2) {
    GLIMPSE_NO_UNROLL
    for (int i = thread_index(); i < kHeads * padded / 2; i += kAttendThreads) {
      float* const at = queries + i / step * 2 * step + i % step;
      const float a = at[0], b = at[step];
      at[0] = a + b;
      at[step] = a - b;
    }
    barrier();
  }
}

/// A block of attend_rows: up to kHeads query heads of one row that share keys, and its shared memory.
template <typename T, int kHeads>
struct RowBlock {
  const AttentionArgs& args;
  const int row, kv_head, first_head, n_heads;  // n_heads from first_head on
  const SeenKeys seen;
  float *queries, *scores, *halves, *chunk_max, *chunk_sum;  // [head][padded], [head][key], [head][dim], [head] each
  int* last_flag;
  /// Two dimensions per thread; the two halves of the block take half of a chunk's keys each.
  const int pair = thread_index() % (kAttendThreads / 2), half = thread_index() / (kAttendThreads / 2);
  const bool has_pair = 2 * pair < args.kv.padded_dim;

  GLIMPSE_DEVICE void load_queries() const {
    const int dim = args.kv.head_dim, padded = args.kv.padded_dim;
    const float scale = sizeof(T) == 1 ? args.scale * mixing_factor(padded) : args.scale;
    for (int i = thread_index(); i < kHeads * padded; i += kAttendThreads) {
      const int head = i / padded, d = i % padded;
      const bool there = head < n_heads && d < dim;
      queries[i] = there ? args.q[row * args.ld_q + (first_head + head) * dim + d] * scale : 0.0f;
    }
    barrier();
    if constexpr (sizeof(T) == 1) mix_queries<kHeads>(queries, padded);
  }

  /// A thread scores one of the `here` keys from number `first` on. early: of this chunk; n: keys in it.
  GLIMPSE_DEVICE void score_keys(int64_t first, int here, EarlyRows<T, kHeads>& early, int n) const {
    const int me = thread_index(), padded = args.kv.padded_dim;
    float dot[kHeads] = {};
    const CacheRow<T> key(seen.kv, seen.kv.keys, kv_head, seen.first_key + first + (me < here ? me : 0), 0);
    if constexpr (EarlyRows<T, kHeads>::kThere) {
      if (me >= n && me < here) early.load_key(key, padded);
      GLIMPSE_UNROLL
      for (int d = 0; d < kMaxHeadDim; d += 8) {
        if (d >= padded) break;
        float k[8], q[8];
        eight_of(T{}, early.key[d / 8], k);
        load_eight(queries + d, q);
        GLIMPSE_UNROLL
        for (int i = 0; i < 8; ++i) dot[0] = fmaf(q[i], k[i], dot[0]);
      }
    } else if (me < here) {
      GLIMPSE_UNROLL_BY(kHeads == 1 ? 32 / sizeof(T) : 4)
      for (int d = 0; d < padded; d += 8) {
        float k[8];
        key.eight(d, k);
        GLIMPSE_UNROLL
        for (int head = 0; head < kHeads; ++head) {
          float q[8];
          load_eight(queries + head * padded + d, q);
          GLIMPSE_UNROLL
          for (int i = 0; i < 8; ++i) dot[head] = fmaf(q[i], k[i], dot[head]);
        }
      }
    }
    GLIMPSE_UNROLL
    for (int head = 0; head < kHeads; ++head) {
      scores[head * kChunkKeys + me] = me < here ? dot[head] : -INFINITY;
    }
  }

  /// A warp turns the scores of a head into weights.
  GLIMPSE_DEVICE void weigh_keys() const {
    for (int head = warp_index(); head < n_heads; head += kAttendThreads / kWarp) {
      float* const s = scores + head * kChunkKeys;
      float most = -INFINITY;
      for (int i = lane_index(); i < kChunkKeys; i += kWarp) most = fmaxf(most, s[i]);
      most = warp_max(most);
      float total = 0;
      for (int i = lane_index(); i < kChunkKeys; i += kWarp) {
        s[i] = exp2_fast(s[i] - most);
        total += s[i];
      }
      total = warp_sum(total);
      if (lane_index() == 0) chunk_max[head] = most, chunk_sum[head] = total;
    }
  }

  /// part: the weighted values of this thread's half of the keys; the second half leaves its own in shared memory.
  GLIMPSE_DEVICE void sum_values(int64_t first, int here, const EarlyRows<T, kHeads>& early, int n,
                                 float (&part)[kHeads][2]) const {
    if (!has_pair) return;
    const int padded = args.kv.padded_dim;
    int begin = half * (kChunkKeys / 2);
    const int end = here < begin + kChunkKeys / 2 ? here : begin + kChunkKeys / 2;
    if constexpr (EarlyRows<T, kHeads>::kThere) {
      const int end_early = n < end ? n : end;
      GLIMPSE_UNROLL
      for (int i = 0; i < kChunkKeys / 2; ++i) {
        if (begin + i >= end_early) break;
        float a, b;
        two_of(T{}, early.value[i], a, b);
        const float p = scores[begin + i];
        part[0][0] = fmaf(p, a, part[0][0]);
        part[0][1] = fmaf(p, b, part[0][1]);
      }
      if (begin < end_early) begin = end_early;
    }
    CacheRow<T> value(seen.kv, seen.kv.values, kv_head, seen.first_key + first + begin, 2 * pair);
    GLIMPSE_UNROLL_BY(kHeads == 1 && sizeof(T) < 4 ? 32 : kHeads == 4 ? 8 : 16)
    for (int key = begin; key < end; ++key, value.next(args.kv)) {
      float a, b;
      value.two(a, b);
      GLIMPSE_UNROLL
      for (int head = 0; head < kHeads; ++head) {
        const float p = scores[head * kChunkKeys + key];
        part[head][0] = fmaf(p, a, part[head][0]);
        part[head][1] = fmaf(p, b, part[head][1]);
      }
    }
    if (half == 0) return;
    GLIMPSE_UNROLL
    for (int head = 0; head < kHeads; ++head) {
      halves[head * padded + 2 * pair] = part[head][0];
      halves[head * padded + 2 * pair + 1] = part[head][1];
    }
  }

  /// The state of the chunks so far.
  struct State {
    float acc[kHeads][2] = {}, max[kHeads], sum[kHeads];
  };
  GLIMPSE_DEVICE void merge_chunk(bool is_first, float (&part)[kHeads][2], State& state) const {
    const int padded = args.kv.padded_dim;
    GLIMPSE_UNROLL
    for (int head = 0; head < kHeads; ++head) {
      if (head >= n_heads) break;
      if (half == 0 && has_pair) {
        part[head][0] += halves[head * padded + 2 * pair];
        part[head][1] += halves[head * padded + 2 * pair + 1];
      }
      if (is_first) {
        state.max[head] = chunk_max[head], state.sum[head] = chunk_sum[head];
        state.acc[head][0] = part[head][0], state.acc[head][1] = part[head][1];
        continue;
      }
      const MergeWeights w = merge_maxima(state.max[head], chunk_max[head]);
      state.sum[head] = merge_values(w, state.sum[head], chunk_sum[head]);
      state.acc[head][0] = merge_values(w, state.acc[head][0], part[head][0]);
      state.acc[head][1] = merge_values(w, state.acc[head][1], part[head][1]);
    }
  }

  GLIMPSE_DEVICE void store(const State& state) const {
    if (half != 0) return;
    const int dim = args.kv.head_dim;
    for (int head = 0; head < n_heads; ++head) {
      float* const out = args.out + row * args.ld_out + (first_head + head) * dim;
      if (2 * pair < dim) out[2 * pair] = state.acc[head][0] / state.sum[head];
      if (2 * pair + 1 < dim) out[2 * pair + 1] = state.acc[head][1] / state.sum[head];
    }
  }

  /// Leaves the state of its split; the block that is the last to do so merges all of them, in ascending order.
  GLIMPSE_DEVICE void merge_splits(const State& state, int split, int n_chunks, int* ticket) const {
    const int me = thread_index(), dim = args.kv.head_dim, padded = args.kv.padded_dim, record = padded + 2;
    float* const partial =
        args.partial + (static_cast<int64_t>(row) * args.n_heads + first_head) * args.n_splits * record;
    if (half == 0) {
      for (int head = 0; head < n_heads; ++head) {
        float* const to = partial + (head * args.n_splits + split) * record;
        if (has_pair) to[2 * pair] = state.acc[head][0], to[2 * pair + 1] = state.acc[head][1];
        if (pair == 0) to[padded] = state.max[head], to[padded + 1] = state.sum[head];
      }
    }
    barrier();
    if (me == 0) *last_flag = take_ticket(ticket) == n_chunks - 1 ? 1 : 0;
    barrier();
    if (*last_flag == 0) return;
    if (me == 0) *ticket = 0;  // as the next launch expects it
    for (int i = me; i < n_heads * dim; i += kAttendThreads) {
      const float* const from = partial + i / dim * args.n_splits * record;
      const int d = i % dim;
      float most = from[padded], total = from[padded + 1], value = from[d];
      GLIMPSE_UNROLL_BY(8)
      for (int c = 1; c < n_chunks; ++c) {
        const float* const next = from + c * record;
        const MergeWeights w = merge_maxima(most, next[padded]);
        total = merge_values(w, total, next[padded + 1]);
        value = merge_values(w, value, next[d]);
      }
      args.out[row * args.ld_out + first_head * dim + i] = value / total;
    }
  }
};

/// at: x: row, y: key/value head and group of kHeads query heads, z: one of args.n_splits. Splits past a row's last
/// chunk end at once. memory: attend_shared(kHeads, padded_dim).total bytes of shared memory.
template <typename T, int kHeads>
GLIMPSE_DEVICE void attend_row(const AttentionArgs& args, const BlockIndex& at, EarlyRows<T, kHeads>& early,
                               uint8_t* memory) {
  const int row = at.x, split = at.z;
  const int blocks_per_kv = (args.group + kHeads - 1) / kHeads;
  const int kv_head = at.y / blocks_per_kv;
  const int first_head = kv_head * args.group + at.y % blocks_per_kv * kHeads;
  const int left = (kv_head + 1) * args.group - first_head;
  const AttendShared layout = attend_shared(kHeads, args.kv.padded_dim);
  auto* const state_at = reinterpret_cast<float*>(memory + layout.state_at);
  const RowBlock<T, kHeads> block{args,
                                  row,
                                  kv_head,
                                  first_head,
                                  left < kHeads ? left : kHeads,
                                  seen_keys(args, row),
                                  reinterpret_cast<float*>(memory),
                                  reinterpret_cast<float*>(memory + layout.scores_at),
                                  reinterpret_cast<float*>(memory + layout.acc_at),
                                  state_at,
                                  state_at + kHeads,
                                  reinterpret_cast<int*>(state_at + 2 * kHeads)};
  const int64_t n_keys = block.seen.n_keys;
  const int n_chunks = static_cast<int>((n_keys + kChunkKeys - 1) / kChunkKeys);
  if (args.n_splits > 1 && split >= n_chunks) return;
  block.load_queries();
  typename RowBlock<T, kHeads>::State state;
  for (int head = 0; head < kHeads; ++head) state.max[head] = state.sum[head] = 0;
  const int first_chunk = args.n_splits > 1 ? split : 0;
  const int end_chunk = args.n_splits > 1 ? split + 1 : n_chunks;
  for (int chunk = first_chunk; chunk < end_chunk; ++chunk) {
    const int64_t first = static_cast<int64_t>(chunk) * kChunkKeys;
    const int here = n_keys - first < kChunkKeys ? static_cast<int>(n_keys - first) : kChunkKeys;
    const int n_early = chunk == first_chunk ? early.n : 0;
    block.score_keys(first, here, early, n_early);
    barrier();
    block.weigh_keys();
    barrier();
    float part[kHeads][2] = {};
    block.sum_values(first, here, early, n_early, part);
    barrier();
    block.merge_chunk(chunk == first_chunk, part, state);
    barrier();  // scores, halves and chunk_* are free
  }
  if (args.n_splits == 1 || n_chunks == 1) return block.store(state);
  block.merge_splits(state, split, n_chunks, args.tickets + row * args.kv.n_heads * blocks_per_kv + at.y);
}

/// Asks for the keys and values of a block's first chunk. Rows of earlier passes do not depend on the launches ahead,
/// and where they lie and end is known: the host writes page tables between recordings, the last launch of a step the
/// state of the next.
GLIMPSE_DEVICE void prefetch_chunk(const AttentionArgs& args, const BlockIndex& at, int n_heads) {
  const SeenKeys seen = seen_keys(args, at.x);
  const KvView& kv = seen.kv;
  const int64_t first = args.n_splits > 1 ? static_cast<int64_t>(at.z) * kChunkKeys : 0;
  if (first >= seen.n_keys) return;
  const int blocks_per_kv = (args.group + n_heads - 1) / n_heads;
  if (at.y % blocks_per_kv != 0) return;                       // of those that read the same, one asks
  int64_t key_at = seen.first_key + first, value_at = key_at;  // in their page
  const auto* const keys = page_of(kv, static_cast<const uint8_t*>(kv.keys), key_at);
  const auto* const values = page_of(kv, static_cast<const uint8_t*>(kv.values), value_at);
  const int64_t left = kv.capacity - key_at, here = left < kChunkKeys ? left : kChunkKeys;
  const int64_t row = at.y / blocks_per_kv * kv.capacity + key_at;
  const int value_bytes = kv.type == CacheType::kF32 ? 4 : kv.type == CacheType::kQ8_0 ? 1 : 2;
  const int row_bytes = kv.padded_dim * value_bytes;
  prefetch_range(keys + row * row_bytes, static_cast<int>(here) * row_bytes, 0);
  prefetch_range(values + row * row_bytes, static_cast<int>(here) * row_bytes, 1);
  if (kv.type != CacheType::kQ8_0) return;
  const int blocks = scale_blocks(kv.padded_dim), n_bytes = static_cast<int>(here) * blocks * 2;
  prefetch_range(cache_scales(kv, static_cast<const void*>(keys)) + row * blocks, n_bytes, 2);
  prefetch_range(cache_scales(kv, static_cast<const void*>(values)) + row * blocks, n_bytes, 3);
}

/// Grid: x: rows, y: key/value heads times groups of kHeads query heads, z: args.n_splits.
template <typename T, int kHeads>
GLIMPSE_DEVICE void attend_rows(const AttentionArgs& args) {
  launch_dependents();
  prefetch_chunk(args, this_block(), kHeads);
  EarlyRows<T, kHeads> early;
  early.load(args, block_x(), block_y() / ((args.group + kHeads - 1) / kHeads), block_z());
  dependency_wait();
  attend_row<T, kHeads>(args, this_block(), early, shared());
}

}  // namespace glimpse::cuda
