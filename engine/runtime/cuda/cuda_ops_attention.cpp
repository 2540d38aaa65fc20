// CudaOps: attention.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/base/checked.h"
#include "engine/runtime/cuda/cuda_ops.h"

namespace glimpse::cuda {
namespace {

constexpr uint64_t kLeastPartialBytes = 32u << 20;
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

Segments taken_together(Segments segments) {
  size_t n = 1;
  int64_t rows = segments[0].n_rows;
  const bool few = rows <= CudaOps::kFewRows;
  for (; n < segments.size() && n <= kMoreParts; ++n) {
    const glimpse::Segment &ahead = segments[n - 1], &s = segments[n];
    rows += s.n_rows;
    if (s.first_row != ahead.first_row + ahead.n_rows || s.causal != ahead.causal) break;
    if (static_cast<const CudaKv&>(*s.kv).element != static_cast<const CudaKv&>(*ahead.kv).element) break;
    if ((s.n_rows <= CudaOps::kFewRows) != few || (few && rows > CudaOps::kFewRows)) break;
  }
  return segments.first(n);
}

KvParts more_parts(Segments segments) {
  KvParts more;
  for (const glimpse::Segment& s : segments.subspan(1)) {
    const KvView kv = static_cast<const CudaKv&>(*s.kv).view();
    KvPart& part = more.part[more.n++];
    part.keys = kv.keys;
    part.values = kv.values;
    part.pages = kv.pages;
    part.page_bytes = kv.page_bytes;
    part.capacity = kv.capacity;
    part.n_past = s.n_past;
    part.first_row = static_cast<int32_t>(s.first_row - segments[0].first_row);
  }
  return more;
}

void CudaPass::attention(Mat q, int64_t n_heads, Segments segments, Mat out) {
  for (const glimpse::Segment& s : segments) {
    Status window = static_cast<const CudaKv&>(*s.kv).check_window(s.first_key);
    if (!window.ok()) return context_.fail(std::move(window));
  }
  const bool wanted = is_operand(out);
  // Kernels that go row by row store floats.
  const bool by_tiles = std::all_of(segments.begin(), segments.end(), [](const glimpse::Segment& s) {
    const auto& kv = static_cast<const CudaKv&>(*s.kv);
    return s.n_rows == 0 || (s.n_rows > kFewRows && kv.element != KvElement::kF32 && kv.head_dim % 2 == 0);
  });
  const OperandView operand = wanted ? start_operand(out) : OperandView{};
  const Mat floats = wanted && !by_tiles ? spare(out.rows, out.cols) : out;
  while (!segments.empty()) {
    const Segments now = taken_together(segments);
    segments = segments.subspan(now.size());
    const int64_t first = now[0].first_row, n = now.back().first_row + now.back().n_rows - first;
    if (n == 0) continue;
    attend_together(q.slice(first, n), n_heads, now, floats.slice(first, n), by_tiles ? operand : OperandView{}, first);
  }
  if (wanted && !by_tiles) make_operand(floats, Norm{}, operand);
}

void CudaPass::attend_together(Mat q, int64_t n_heads, Segments segments, Mat out, const OperandView& operand,
                               int64_t operand_row) {
  const glimpse::Segment& segment = segments[0];
  const auto& kv = static_cast<const CudaKv&>(*segment.kv);
  AttentionArgs args;
  args.q = q.data;
  args.ld_q = q.ld;
  args.out = out.data;
  args.ld_out = out.ld;
  args.operand = operand;
  args.operand_row = static_cast<int32_t>(operand_row);
  args.kv = kv.view();
  args.first_key = segment.first_key;
  args.n_heads = static_cast<int32_t>(n_heads);
  args.group = static_cast<int32_t>(n_heads / kv.n_kv_heads);
  args.n = static_cast<int32_t>(q.rows);
  int64_t n_keys = segment.end_key() - segment.first_key;
  args.causal = segment.causal ? 1 : 0;
  args.at = {segment.n_past - segment.first_key, steps_ == nullptr ? nullptr : steps_ + segment.first_row};
  args.n_keys = n_keys;
  args.scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(kv.head_dim)));
  args.more = more_parts(segments);
  for (int i = 0; i < args.more.n; ++i) {
    const glimpse::Segment& s = segments[static_cast<size_t>(i) + 1];
    KvPart& part = args.more.part[i];
    part.n_past = s.n_past - s.first_key;
    part.n_keys = s.end_key() - s.first_key;
    part.first_key = s.first_key;
    n_keys = std::max(n_keys, part.n_keys);  // for as many chunks there must be blocks
  }
  const int padded = args.kv.padded_dim;
  if (kv.element != KvElement::kF32 && q.rows > kFewRows) {
    const AttendMany many = attend_many(args.kv.type, padded, context_.device_->has_warpgroups());
    int64_t n_blocks = 0;
    for (const glimpse::Segment& s : segments) n_blocks += ceil_div(s.n_rows, many.rows);
    launch(many.kernel, LaunchShape{{n_blocks, n_heads, 1}, many.shared_bytes}, &args);
    return;
  }
  const int64_t n_chunks = ceil_div(n_keys, kKeysPerSplit);
  const int heads =
      attend_heads(args.kv.type, args.group, q.rows * kv.n_kv_heads * n_chunks, context_.device_->n_multiprocessors());
  const int64_t blocks_y = kv.n_kv_heads * ceil_div(args.group, heads);
  const uint64_t partials = static_cast<uint64_t>(q.rows * n_heads * n_chunks * (padded + 2)) * sizeof(float);
  // Few rows leave most of the device idle unless the keys are shared out.
  if (q.rows <= kFewRows && n_chunks > 1 && n_chunks <= 65535 && partials <= context_.partials_.size() &&
      static_cast<uint64_t>(q.rows * blocks_y) <= kTickets) {
    args.n_splits = static_cast<int32_t>(n_chunks);
    args.partial = context_.partials_.as<float>();
    args.tickets = context_.tickets_.as<int32_t>();
  }
  launch(attend_rows_kernel(args.kv.type, heads),
         LaunchShape{{q.rows, blocks_y, args.n_splits}, attend_rows_shared_bytes(heads, padded)}, &args);
}

}  // namespace glimpse::cuda
