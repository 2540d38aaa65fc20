// CpuOps: attention. Work items are (key/value head, block of query rows); the query heads of a group are stacked as
// rows of one block, so that each key and value is read once for all of them.
#include <algorithm>

#include "engine/base/checked.h"
#include "engine/runtime/cpu_ops.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_int8.h"

namespace glimpse {
namespace {

// Floats of one softmax state: kMaxQueryRows rows of output, then maxima, then sums.
int64_t state_floats(int64_t d) {
  return kMaxQueryRows * (d + 2);
}

AttentionState state_at(float* floats, int64_t d) {
  return {floats + kMaxQueryRows * d, floats + kMaxQueryRows * (d + 1), floats};
}

// The query rows of one item: tokens [token, token + n_tokens) times the heads of one group.
struct QueryRows {
  const float* q[kMaxQueryRows];
  float* out[kMaxQueryRows];
  int64_t n_visible[kMaxQueryRows];  // keys from the start of the cache
  int64_t n_rows = 0;
  int64_t max_visible = 0;

  QueryRows(Mat q_mat, Mat out_mat, int64_t kv_head, int64_t group, int64_t first_row, int64_t n, int64_t head_dim,
            const AttentionSpec& spec) {
    for (int64_t r = first_row; r < first_row + n; ++r) {
      const int64_t token = r / group;
      const int64_t head = kv_head * group + r % group;
      q[n_rows] = q_mat.row(token) + head * head_dim;
      out[n_rows] = out_mat.row(token) + head * head_dim;
      n_visible[n_rows] = spec.causal ? spec.n_past + token + 1 : spec.n_keys;
      max_visible = std::max(max_visible, n_visible[n_rows]);
      ++n_rows;
    }
  }
  void visible_in_block(int64_t key_begin, int32_t* counts) const {
    for (int64_t r = 0; r < n_rows; ++r) {
      counts[r] = static_cast<int32_t>(std::clamp<int64_t>(n_visible[r] - key_begin, 0, kKeyBlock));
    }
  }
};

}  // namespace

uint64_t CpuOps::attention_state_bytes(int64_t d) {
  return static_cast<uint64_t>(state_floats(d)) * sizeof(float);
}

Status CpuOps::grow_attention(int64_t d, int64_t n_partials) {
  const uint64_t state_bytes = attention_state_bytes(d);
  for (Worker& worker : workers_) {
    if (worker.state.size() >= state_bytes) continue;
    GLIMPSE_ASSIGN(worker.state, AlignedBuffer::allocate(state_bytes, "attention state"));
    GLIMPSE_ASSIGN(worker.queries,
                   AlignedBuffer::allocate(static_cast<uint64_t>(kMaxQueryRows * d) * sizeof(float), "query rows"));
    GLIMPSE_ASSIGN(worker.scores, AlignedBuffer::allocate(attention_scratch_bytes(d), "attention scores"));
  }
  // Key blocks are shared out only when there are too few items for the threads: one token, one state per head and
  // block.
  const uint64_t partial_bytes = team_.n_threads() > 1 ? static_cast<uint64_t>(n_partials) * state_bytes : 0;
  if (partials_.size() < partial_bytes) {
    GLIMPSE_ASSIGN(partials_, AlignedBuffer::allocate(partial_bytes, "attention states of key blocks"));
  }
  return {};
}

// Turns the heads that can bear it into int8. Decided and converted head by head, each by one thread, from its keys,
// values and queries alone: the same for any number of threads.
void CpuOps::quantize_segment_heads(Mat q, int64_t n_heads, CpuKv& kv) {
  std::fill(kv.is_int8.begin(), kv.is_int8.end(), uint8_t{0});
  const int64_t n_keys = q.rows, end = round_up(n_keys, kKeyBlock), group = n_heads / kv.n_kv_heads;
  const bool large = n_keys >= kMinInt8Keys && isa_ >= Isa::kAvx512Vnni;
  next_item_.store(0, std::memory_order_relaxed);
  team_.parallel([&](int thread, int) {
    Worker& worker = workers_[static_cast<size_t>(thread)];
    for (int64_t head = next_item_.fetch_add(1); head < kv.n_kv_heads; head = next_item_.fetch_add(1)) {
      std::byte *const keys = kv.head_keys(head), *const values = kv.head_values(head);
      // An earlier picture's int8 behind the keys would be no numbers as bfloat16.
      float* const zero = worker.state.as<float>();
      std::fill_n(zero, kv.head_dim, 0.0f);
      store_keys(isa_, kv.element, zero, 0, end - n_keys, kv.head_dim, n_keys, keys);
      store_values(isa_, kv.element, zero, 0, end - n_keys, kv.head_dim, n_keys, values);
      if (!large) continue;
      const SegmentQueries queries{q.data + head * group * kv.head_dim, q.ld, q.rows, group};
      const Int8Estimate estimate = estimate_int8(queries, kv.head_dim, n_keys, keys, values, worker.scores.data());
      if (!fits_int8(estimate)) continue;
      quantize_segment(kv.head_dim, n_keys, keys, values, worker.scores.data());
      kv.is_int8[static_cast<size_t>(head)] = 1;
    }
  });
}

void CpuOps::attention(Mat q, const KvStore& store, int64_t n_heads, const AttentionSpec& spec, Mat out) {
  const CpuKv& kv = static_cast<const CpuKv&>(store);
  const int64_t group = n_heads / kv.n_kv_heads;
  const int64_t n_items = kv.n_kv_heads * ceil_div(q.rows * group, kMaxQueryRows);
  const int64_t n_keys = spec.causal ? spec.n_past + q.rows : spec.n_keys;
  const bool split_keys = n_items < team_.n_threads() && q.rows * group <= kMaxQueryRows && n_keys > kKeyBlock;
  next_item_.store(0, std::memory_order_relaxed);
  if (split_keys) {
    attend_split(q, kv, group, spec, out);
  } else {
    attend_items(q, kv, group, spec, out);
  }
}

// Each item runs through its key blocks in ascending order. Threads take the next item when they are free; where rows
// see different numbers of keys, the last ones see the most and go first; otherwise a head's rows follow each other, so
// that its keys and values stay in cache.
void CpuOps::attend_items(Mat q, const CpuKv& kv, int64_t group, const AttentionSpec& spec, Mat out) {
  const int64_t d = padded_head_dim(kv.head_dim);
  const int64_t n_rows = q.rows * group;
  // Whole tokens per block, so that a group's rows stay together.
  const int64_t block_rows = group <= kMaxQueryRows ? kMaxQueryRows / group * group : kMaxQueryRows;
  const int64_t n_blocks = ceil_div(n_rows, block_rows);
  const int64_t n_items = n_blocks * kv.n_kv_heads;
  const auto work = [&](int thread, int) {
    Worker& worker = workers_[static_cast<size_t>(thread)];
    const AttentionState state = state_at(worker.state.as<float>(), d);
    for (int64_t item = next_item_.fetch_add(1); item < n_items; item = next_item_.fetch_add(1)) {
      const int64_t head = spec.causal ? item % kv.n_kv_heads : item / n_blocks;
      const int64_t block = spec.causal ? item / kv.n_kv_heads : item % n_blocks;
      const int64_t first = (n_blocks - 1 - block) * block_rows;
      const KvElement element = kv.head_element(head);
      const AttentionKernel& kernel = select_attention_kernel(element, isa_);
      const QueryRows rows(q, out, head, group, first, std::min(block_rows, n_rows - first), kv.head_dim, spec);
      prepare_queries(isa_, element, rows.q, rows.n_rows, kv.head_dim, kv.head_keys(head), worker.queries.data());
      reset_attention_state(state, rows.n_rows, d);
      int32_t visible[kMaxQueryRows];
      for (int64_t key = 0; key < rows.max_visible; key += kKeyBlock) {
        rows.visible_in_block(key, visible);
        kernel.run(worker.queries.data(), rows.n_rows, d, kv.head_keys(head), kv.head_values(head), key, visible, state,
                   worker.scores.data());
      }
      finish_attention(isa_, state, rows.n_rows, kv.head_dim, rows.out);
    }
  };
  if (n_items == 1) {
    work(0, 1);
  } else {
    team_.parallel(work);
  }
}

// Few query rows, many keys (decode on many threads): each (head, key block) is an item with a state of its own; the
// states of a head are merged in ascending order, which gives the bits of attend_items.
void CpuOps::attend_split(Mat q, const CpuKv& kv, int64_t group, const AttentionSpec& spec, Mat out) {
  const int64_t d = padded_head_dim(kv.head_dim);
  const int64_t n_rows = q.rows * group;
  const int64_t n_keys = spec.causal ? spec.n_past + q.rows : spec.n_keys;
  const int64_t n_key_blocks = ceil_div(n_keys, kKeyBlock);
  const int64_t n_items = kv.n_kv_heads * n_key_blocks;
  const auto partial = [&](int64_t item) { return state_at(partials_.as<float>() + item * state_floats(d), d); };
  team_.parallel([&](int thread, int n_threads) {
    Worker& worker = workers_[static_cast<size_t>(thread)];
    for (int64_t item = next_item_.fetch_add(1); item < n_items; item = next_item_.fetch_add(1)) {
      const int64_t head = item / n_key_blocks;
      const int64_t key = item % n_key_blocks * kKeyBlock;
      const QueryRows rows(q, out, head, group, 0, n_rows, kv.head_dim, spec);
      const KvElement element = kv.head_element(head);
      const AttentionKernel& kernel = select_attention_kernel(element, isa_);
      prepare_queries(isa_, element, rows.q, n_rows, kv.head_dim, kv.head_keys(head), worker.queries.data());
      reset_attention_state(partial(item), n_rows, d);
      int32_t visible[kMaxQueryRows];
      rows.visible_in_block(key, visible);
      kernel.run(worker.queries.data(), n_rows, d, kv.head_keys(head), kv.head_values(head), key, visible,
                 partial(item), worker.scores.data());
    }
    team_.barrier();
    const WorkRange heads = split_work(kv.n_kv_heads, thread, n_threads);
    for (int64_t head = heads.begin; head < heads.end; ++head) {
      const AttentionState state = partial(head * n_key_blocks);
      for (int64_t block = 1; block < n_key_blocks; ++block) {
        merge_attention_states(isa_, state, partial(head * n_key_blocks + block), n_rows, d);
      }
      const QueryRows rows(q, out, head, group, 0, n_rows, kv.head_dim, spec);
      finish_attention(isa_, state, n_rows, kv.head_dim, rows.out);
    }
  });
}

}  // namespace glimpse
