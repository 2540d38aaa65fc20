// CpuOps: attention. Work items are (segment, key/value head, block of query rows); the query heads of a group are
// stacked as rows of one block, so that each key and value is read once for all of them.
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

// How the work of one segment is cut. group: query heads per key/value head.
struct Cut {
  const Segment& segment;
  const CpuKv& kv;
  int64_t group, n_rows, block_rows, n_blocks, n_key_blocks;

  Cut(const Segment& s, int64_t n_heads)
      : segment(s),
        kv(static_cast<const CpuKv&>(*s.kv)),
        group(n_heads / kv.n_kv_heads),
        n_rows(s.n_rows * group),
        // Whole tokens per block, so that a group's rows stay together.
        block_rows(group <= kMaxQueryRows ? kMaxQueryRows / group * group : kMaxQueryRows),
        n_blocks(ceil_div(n_rows, block_rows)),
        n_key_blocks(s.n_rows == 0 ? 0 : ceil_div(s.end_key() - s.first_key, kKeyBlock)) {}
  int64_t n_items() const { return kv.n_kv_heads * n_blocks; }                       // each with all its keys
  int64_t n_split_items() const { return n_blocks * kv.n_kv_heads * n_key_blocks; }  // each with one block of them
};

// Items that a thread takes at once: it looks for the segment of the first of them anew.
constexpr Grain kItemGrain{.most = 8};

// Fewer products of a query and a key or a value element than this are made sooner than two threads can share them.
constexpr int64_t kAloneProducts = int64_t{1} << 17;

// visit(number, item, cut) for the items [begin, end) of all segments; `item` is the number in its own.
template <class Visit>
void each_item(Segments segments, int64_t n_heads, int64_t (Cut::*count)() const, int64_t begin, int64_t end,
               Visit visit) {
  int64_t before = 0;
  for (size_t s = 0; s < segments.size() && before < end; ++s) {
    const Cut cut(segments[s], n_heads);
    const int64_t after = before + (cut.*count)();
    for (int64_t i = std::max(begin, before); i < std::min(end, after); ++i) visit(i, i - before, cut);
    before = after;
  }
}

// One head's keys and values as a segment sees them, and the kernel for them.
class Panels {
 public:
  Panels(const Cut& cut, int64_t head, Isa isa)
      : kv_(cut.kv),
        head_(head),
        first_key_(cut.segment.first_key),
        kernel_(select_attention_kernel(kv_.element, isa, kv_.is_int8(head, first_key_))) {}
  void prepare(Isa isa, const float* const* q, int64_t n_rows, std::byte* queries) const {
    if (kernel_.int8) {
      prepare_queries_int8(isa, q, n_rows, kv_.head_dim, kv_.head_keys(head_, first_key_), queries);
    } else {
      prepare_queries(isa, kv_.element, q, n_rows, kv_.head_dim, queries, kv_.head_wide(head_));
    }
  }
  // Merges the block of keys from number `key` of the segment's on.
  void attend(int64_t key, const std::byte* queries, int64_t n_rows, const int32_t* visible,
              const AttentionState& state, std::byte* scratch) const {
    const int64_t d = padded_head_dim(kv_.head_dim);
    // Int8 panels are one piece; others begin at any block.
    const int64_t from = kernel_.int8 ? 0 : key;
    kernel_.run(queries, n_rows, d, kv_.head_keys(head_, first_key_ + from), kv_.head_values(head_, first_key_ + from),
                key - from, visible, state, scratch);
  }

 private:
  const CpuKv& kv_;
  const int64_t head_, first_key_;
  const AttentionKernel& kernel_;
};

// The query rows of one item: rows [first, first + n) of a segment's tokens times the heads of one group.
struct QueryRows {
  const float* q[kMaxQueryRows];
  float* out[kMaxQueryRows];
  int64_t n_visible[kMaxQueryRows];  // keys from the segment's first on
  int64_t n_rows = 0;
  int64_t max_visible = 0;

  QueryRows(const Cut& cut, Mat q_mat, Mat out_mat, int64_t kv_head, int64_t first, int64_t n) {
    const int64_t head_dim = cut.kv.head_dim;
    for (int64_t r = first; r < first + n; ++r) {
      const int64_t token = r / cut.group, row = cut.segment.first_row + token;
      const int64_t head = kv_head * cut.group + r % cut.group;
      q[n_rows] = q_mat.row(row) + head * head_dim;
      out[n_rows] = out_mat.row(row) + head * head_dim;
      n_visible[n_rows] = cut.segment.n_visible(token);
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
    GLIMPSE_ASSIGN(worker.queries, AlignedBuffer::allocate(kMaxQueryRows * max_query_row_bytes(d), "query rows"));
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

// Turns the heads that may be and can bear it into int8. Decided and converted head by head, each by one thread, from
// its keys, values and queries alone: the same for any number of threads.
void CpuOps::quantize_segment_heads(Mat q, int64_t n_heads, Segments segments) {
  bool wanted = false;
  for (const Segment& s : segments) {
    static_cast<CpuKv&>(*s.kv).begin_segment(s.first_key, s.end_key());
    wanted = wanted || s.int8;
  }
  if (!wanted || !isa_.has(Isa::kAvx512Vnni)) return;  // slower there than bfloat16
  const int64_t n_kv_heads = segments[0].kv->n_kv_heads, group = n_heads / n_kv_heads;
  const int64_t n_items = static_cast<int64_t>(segments.size()) * n_kv_heads;
  team_.for_each(n_items, [&](int thread, int64_t item) {
    Worker& worker = workers_[static_cast<size_t>(thread)];
    const Segment& s = segments[static_cast<size_t>(item / n_kv_heads)];
    const int64_t head = item % n_kv_heads;
    CpuKv& kv = static_cast<CpuKv&>(*s.kv);
    if (!s.int8 || kv.begins.empty() || s.n_rows < kMinInt8Keys || s.first_key % kKeyBlock != 0 ||
        s.first_key != s.n_past)
      return;
    std::byte *const keys = kv.head_keys(head, s.first_key), *const values = kv.head_values(head, s.first_key);
    // An earlier picture's int8 behind the keys would be no numbers as bfloat16.
    float* const zero = worker.state.as<float>();
    std::fill_n(zero, kv.head_dim, 0.0f);
    kv.clear(isa_, head, zero, round_up(s.n_rows, kKeyBlock) - s.n_rows, s.first_key + s.n_rows);
    const SegmentQueries queries{q.row(s.first_row) + head * group * kv.head_dim, q.ld, s.n_rows, group};
    const Int8Estimate estimate =
        estimate_int8(isa_, queries, kv.head_dim, s.n_rows, keys, values, worker.scores.data());
    if (!fits_int8(estimate)) return;
    quantize_segment(isa_, kv.head_dim, s.n_rows, keys, values, worker.scores.data());
    kv.begins_at(head, s.first_key) = CpuKv::Begins::kInt8;
  });
}

void CpuOps::attention(Mat q, int64_t n_heads, Segments segments, Mat out) {
  int64_t n_items = 0, n_split = 0, n_products = 0, d = 0;
  bool one_block = true;  // of query rows, in every segment
  for (const Segment& s : segments) {
    const Cut cut(s, n_heads);
    n_items += cut.n_items();
    n_split += cut.n_split_items();
    n_products += 2 * cut.n_rows * cut.kv.n_kv_heads * (s.end_key() - s.first_key) * cut.kv.head_dim;
    one_block = one_block && cut.n_blocks <= 1;
    d = padded_head_dim(cut.kv.head_dim);
    // Kernels read the keys of a whole step.
    const int64_t end = s.first_key + round_up(s.end_key() - s.first_key, kKeyStep);
    const int64_t align = cut.kv.pages == nullptr ? kKeyAlign : kKeyBlock;
    if (s.first_key % align != 0 || end > cut.kv.capacity) {
      if (status_.ok()) status_ = make_error(ErrorCode::kInternal, "a window of keys that the store does not hold");
      return;
    }
  }
  const bool fits = static_cast<uint64_t>(n_split) * attention_state_bytes(d) <= partials_.size();
  if (one_block && n_items < team_.n_threads() && n_split > n_items && fits) {
    attend_split(q, n_heads, segments, out);
  } else {
    Grain grain = kItemGrain;
    if (n_products < kAloneProducts) grain.alone = n_items;
    attend_items(q, n_heads, segments, n_items, grain, out);
  }
}

// Each item runs through its key blocks in ascending order. Where rows see different numbers of keys, the last ones see
// the most and go first; otherwise a head's rows follow each other, so that its keys and values stay in cache.
void CpuOps::attend_items(Mat q, int64_t n_heads, Segments segments, int64_t n_items, Grain grain, Mat out) {
  team_.for_ranges(n_items, grain, [&](int thread, int64_t begin, int64_t end) {
    Worker& worker = workers_[static_cast<size_t>(thread)];
    each_item(segments, n_heads, &Cut::n_items, begin, end, [&](int64_t, int64_t item, const Cut& cut) {
      const int64_t head_dim = cut.kv.head_dim, d = padded_head_dim(head_dim);
      const AttentionState state = state_at(worker.state.as<float>(), d);
      const int64_t head = cut.segment.causal ? item % cut.kv.n_kv_heads : item / cut.n_blocks;
      const int64_t block = cut.segment.causal ? item / cut.kv.n_kv_heads : item % cut.n_blocks;
      const int64_t first = (cut.n_blocks - 1 - block) * cut.block_rows;
      const Panels panels(cut, head, isa_);
      const QueryRows rows(cut, q, out, head, first, std::min(cut.block_rows, cut.n_rows - first));
      panels.prepare(isa_, rows.q, rows.n_rows, worker.queries.data());
      reset_attention_state(state, rows.n_rows, d);
      int32_t visible[kMaxQueryRows];
      for (int64_t key = 0; key < rows.max_visible; key += kKeyBlock) {
        rows.visible_in_block(key, visible);
        panels.attend(key, worker.queries.data(), rows.n_rows, visible, state, worker.scores.data());
      }
      finish_attention(isa_, state, rows.n_rows, head_dim, rows.out);
    });
  });
}

// Few query rows, many keys (decode on many threads): each (segment, head, key block) is an item with a state of its
// own; the states of a head are merged in ascending order, which gives the bits of attend_items.
void CpuOps::attend_split(Mat q, int64_t n_heads, Segments segments, Mat out) {
  int64_t n_items = 0, n_merges = 0;
  for (const Segment& s : segments) {
    n_items += Cut(s, n_heads).n_split_items();
    n_merges += Cut(s, n_heads).n_items();
  }
  const auto partial = [&](int64_t item, int64_t d) {
    return state_at(partials_.as<float>() + item * state_floats(d), d);
  };
  team_.for_ranges(n_items, kItemGrain, [&](int thread, int64_t begin, int64_t end) {
    Worker& worker = workers_[static_cast<size_t>(thread)];
    each_item(segments, n_heads, &Cut::n_split_items, begin, end, [&](int64_t number, int64_t item, const Cut& cut) {
      const int64_t d = padded_head_dim(cut.kv.head_dim), head = item / cut.n_key_blocks;
      const int64_t key = item % cut.n_key_blocks * kKeyBlock;
      const Panels panels(cut, head, isa_);
      const QueryRows rows(cut, q, out, head, 0, cut.n_rows);
      panels.prepare(isa_, rows.q, rows.n_rows, worker.queries.data());
      reset_attention_state(partial(number, d), rows.n_rows, d);
      int32_t visible[kMaxQueryRows];
      rows.visible_in_block(key, visible);
      panels.attend(key, worker.queries.data(), rows.n_rows, visible, partial(number, d), worker.scores.data());
    });
  });
  // The heads of all segments; `first` runs through the items in which their states begin.
  team_.for_ranges(n_merges, kItemGrain, [&](int, int64_t begin, int64_t end) {
    int64_t merge = 0, first = 0;
    for (const Segment& s : segments) {
      const Cut cut(s, n_heads);
      const int64_t d = padded_head_dim(cut.kv.head_dim);
      for (int64_t head = 0; head < cut.n_items(); ++head, ++merge, first += cut.n_key_blocks) {
        if (merge < begin || merge >= end) continue;
        for (int64_t block = 1; block < cut.n_key_blocks; ++block) {
          merge_attention_states(isa_, partial(first, d), partial(first + block, d), cut.n_rows, d);
        }
        const QueryRows rows(cut, q, out, head, 0, cut.n_rows);
        finish_attention(isa_, partial(first, d), cut.n_rows, cut.kv.head_dim, rows.out);
      }
    }
  });
}

}  // namespace glimpse
