// CudaOps: attention.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/base/checked.h"
#include "engine/runtime/cuda/cuda_ops.h"

namespace glimpse::cuda {
namespace {

constexpr uint64_t kLeastPartialBytes = 16u << 20;
constexpr uint64_t kTickets = 4096;

// Chunks of keys that blocks share; where it is too little, they do not. Enough for a row of a decode step with up to
// eight query heads per key/value head, whatever the context.
uint64_t partial_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) {
  const auto n_chunks = static_cast<uint64_t>(8 * n_kv_heads * ceil_div(capacity, kKeysPerSplit));
  const auto padded = static_cast<uint64_t>(padded_head_dim(head_dim));
  return std::max(kLeastPartialBytes, n_chunks * (padded + 2) * sizeof(float));
}

}  // namespace

uint64_t CudaOps::kv_scratch_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) const {
  return partial_bytes(n_kv_heads, head_dim, capacity) + kTickets * sizeof(int32_t);
}

Status CudaOps::reserve_attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) {
  GLIMPSE_TRY(grow(partials_, partial_bytes(n_kv_heads, head_dim, capacity), "attention"));
  return grow(tickets_, kTickets * sizeof(int32_t), "attention");
}

void CudaOps::attention(Mat q, int64_t n_heads, Segments segments, Mat out) {
  for (const glimpse::Segment& s : segments) {
    if (s.n_rows == 0) continue;
    attend_segment(q.slice(s.first_row, s.n_rows), n_heads, s, out.slice(s.first_row, s.n_rows));
  }
}

void CudaOps::attend_segment(Mat q, int64_t n_heads, const glimpse::Segment& segment, Mat out) {
  const auto& kv = static_cast<const CudaKv&>(*segment.kv);
  AttentionArgs args;
  args.q = q.data;
  args.ld_q = q.ld;
  args.out = out.data;
  args.ld_out = out.ld;
  args.kv = kv.view();
  Status window = kv.check_window(segment.first_key);
  if (!window.ok()) return fail(std::move(window));
  args.first_key = segment.first_key;
  args.n_heads = static_cast<int32_t>(n_heads);
  args.group = static_cast<int32_t>(n_heads / kv.n_kv_heads);
  args.n = static_cast<int32_t>(q.rows);
  const int64_t n_keys = segment.end_key() - segment.first_key;
  args.causal = segment.causal ? 1 : 0;
  args.n_past = segment.n_past - segment.first_key;
  args.step = step_;
  args.n_keys = n_keys;
  args.scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(kv.head_dim)));
  const int padded = args.kv.padded_dim;
  if (kv.element != KvElement::kF32 && q.rows > kFewRows) {
    launch(attend_tiles_kernel(args.kv.type, padded),
           LaunchShape{{ceil_div(q.rows, kRowsPerTileGroup), n_heads, 1}, attend_tiles_shared_bytes(padded)}, &args);
    return;
  }
  const int64_t n_chunks = ceil_div(n_keys, kKeysPerSplit);
  const int heads =
      attend_heads(args.kv.type, args.group, q.rows * kv.n_kv_heads * n_chunks, device_->n_multiprocessors());
  const int64_t blocks_y = kv.n_kv_heads * ceil_div(args.group, heads);
  const uint64_t partials = static_cast<uint64_t>(q.rows * n_heads * n_chunks * (padded + 2)) * sizeof(float);
  // Few rows leave most of the device idle unless the keys are shared out.
  if (q.rows <= kFewRows && n_chunks > 1 && n_chunks <= 65535 && partials <= partials_.size() &&
      static_cast<uint64_t>(q.rows * blocks_y) <= kTickets) {
    args.n_splits = static_cast<int32_t>(n_chunks);
    args.partial = partials_.as<float>();
    args.tickets = tickets_.as<int32_t>();
  }
  launch(attend_rows_kernel(args.kv.type, heads),
         LaunchShape{{q.rows, blocks_y, args.n_splits}, attend_rows_shared_bytes(heads, padded)}, &args);
}

}  // namespace glimpse::cuda
