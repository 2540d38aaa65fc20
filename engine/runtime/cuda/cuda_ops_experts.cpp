// CudaOps: feed-forward networks of experts. The device chooses (kernels/cuda/experts.cuh); the host knows how many
// columns there are, and launches blocks for whatever experts they belong to.
#include <algorithm>

#include "engine/base/checked.h"
#include "engine/runtime/cuda/cuda_ops.h"

namespace glimpse::cuda {
namespace {

// Rows that are sorted together: all chosen experts' weights are read once for them.
constexpr int64_t kMostRows = 1024;
constexpr int kGate = 0, kUp = 1, kDown = 2, kMatrices = 3;  // in the index

uint64_t padded(uint64_t n_bytes) {
  return (n_bytes + 255) / 256 * 256;
}

// Of n rows, in memory from `base` on (nullptr: only the sizes count).
ExpertRoom room_for(const ExpertWeights& w, int64_t n, bool warpgroups, const std::byte* base) {
  constexpr int kFewColumns = 4, kMoreColumns = 8, kNarrow = 64, kAtom = 8;
  ExpertRoom room;
  const int64_t total = n * w.n_used, n_active = std::min(w.n_experts(), total), hidden = w.down[0].weight->rows;
  const bool many = n > CudaPass::kFewRows;
  if (many) {
    room.group_columns = warpgroups && total <= kNarrow * w.n_experts() ? kNarrow : kGemmColumnsPerBlock;
  } else {
    room.group_columns = n == 1 ? 1 : n <= kFewColumns ? kFewColumns : kMoreColumns;
  }
  room.align = many ? kAtom : 1;
  // Each expert but the empty ones has a group that may not be full, and columns that only fill an atom.
  const auto groups_of = [&](int64_t columns) { return (total - n_active) / columns + n_active; };
  room.n_groups = groups_of(room.group_columns);
  room.n_columns = many ? round_up(total + (kAtom - 1) * n_active, kAtom) : total;
  const int64_t ld = round_up(std::max(w.gate[0].weight->cols, w.width()), kTileColumns);
  const auto take = [&](uint64_t n_bytes) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(base) + room.n_bytes;
    room.n_bytes += padded(n_bytes);
    return at;
  };
  // As many groups as the smallest take, so that fewer rows never need more.
  const auto n_groups = static_cast<uint64_t>(std::max(groups_of(kFewColumns), room.n_groups));
  room.groups = reinterpret_cast<ColumnGroup*>(take(n_groups * sizeof(ColumnGroup)));
  room.places = reinterpret_cast<ColumnPlace*>(take(static_cast<uint64_t>(room.n_columns) * sizeof(ColumnPlace)));
  const int64_t n_values = many ? rows_size(warpgroups, room.n_columns, ld) : 0;
  room.act = reinterpret_cast<uint16_t*>(take(static_cast<uint64_t>(n_values) * sizeof(uint16_t)));
  const int64_t floats = n * std::max(w.n_slots() * hidden, w.n_used * w.width());
  room.products = reinterpret_cast<float*>(take(static_cast<uint64_t>(floats) * sizeof(float)));
  return room;
}

Routing slice(const Routing& routing, int64_t first, int64_t count) {
  return {routing.scores.slice(first, count), routing.expert.slice(first, count), routing.weight.slice(first, count)};
}

// body(first, count) of pieces of the rows that are many, too, where all rows are.
template <typename Body>
void for_each_piece(int64_t n, Body body) {
  const int64_t n_pieces = ceil_div(n, kMostRows);
  for (int64_t i = 0; i < n_pieces; ++i) {
    const int64_t first = n * i / n_pieces;
    body(first, n * (i + 1) / n_pieces - first);
  }
}

// Whether what reads the activations of a row reads whole vectors: these lie at multiples of the widths.
bool are_aligned(const ExpertWeights& w) {
  constexpr int64_t kVector = 4;
  const auto floats = [](const Linear& linear) { return is_float_type(cuda_weight(linear).format); };
  const bool fits = w.row_width() % kVector == 0 && w.n_used * w.width() % kVector == 0 && w.width() % kVector == 0;
  return fits || (floats(w.down[0]) && (!w.has_shared() || floats(w.shared_down)));
}

}  // namespace

uint64_t CudaOps::expert_index_bytes(int64_t n_experts) const {
  return static_cast<uint64_t>(kMatrices * n_experts) * sizeof(const uint8_t*);
}

Result<std::shared_ptr<const BackendBuffer>> CudaOps::index_experts(const ExpertWeights& w) {
  if (!are_aligned(w)) {
    return make_error(ErrorCode::kUnsupported,
                      "%d experts of %d activations each and %d shared: a GPU wants multiples of 4", w.n_used,
                      w.width(), w.shared_width());
  }
  std::vector<const uint8_t*> index;
  for (const std::vector<Linear>* matrices : {&w.gate, &w.up, &w.down}) {
    for (const Linear& linear : *matrices) index.push_back(cuda_weight(linear).view.data);
  }
  const uint64_t n_bytes = expert_index_bytes(w.n_experts());
  GLIMPSE_ASSIGN(std::unique_ptr<BackendBuffer> buffer,
                 allocate(static_cast<int64_t>(n_bytes / sizeof(float)), "the places of experts"));
  GLIMPSE_TRY(stream_->copy_in(buffer->data, index.data(), n_bytes));
  GLIMPSE_TRY(stream_->synchronize());  // other streams will read it
  return std::shared_ptr<const BackendBuffer>(std::move(buffer));
}

uint64_t CudaOps::reserve_experts_bytes(int64_t max_rows, const ExpertWeights& w) const {
  return room_for(w, std::clamp<int64_t>(max_rows, 1, kMostRows), device_->has_warpgroups(), nullptr).n_bytes;
}

Status CudaOps::reserve_experts(int64_t max_rows, const ExpertWeights& w) {
  return grow(experts_, reserve_experts_bytes(max_rows, w), "experts");
}

ExpertRoom CudaPass::expert_room(const ExpertWeights& w, int64_t n) {
  const bool warpgroups = context_.device_->has_warpgroups();
  context_.fail(context_.grow(context_.experts_, room_for(w, n, warpgroups, nullptr).n_bytes, "experts"));
  return room_for(w, n, warpgroups, context_.experts_.as<std::byte>());
}

void CudaPass::launch_route(Kernel kernel, int64_t blocks, const ExpertWeights& w, const Routing& routing,
                            const ExpertRoom& room) {
  RouteArgs args;
  args.scores = routing.scores.data;
  args.ld_scores = routing.scores.ld;
  args.expert = routing.expert.data;
  args.ld_expert = routing.expert.ld;
  args.weight = routing.weight.data;
  args.ld_weight = routing.weight.ld;
  args.n = static_cast<int32_t>(routing.expert.rows);
  args.n_experts = static_cast<int32_t>(w.n_experts());
  args.n_used = static_cast<int32_t>(w.n_used);
  args.normalize = w.normalize ? 1 : 0;
  args.shared = w.has_shared() ? 1 : 0;
  args.groups = room.groups;
  args.n_groups = static_cast<int32_t>(room.n_groups);
  args.places = room.places;
  args.n_columns = static_cast<int32_t>(room.n_columns);
  args.group_columns = room.group_columns;
  args.align = room.align;
  launch(kernel, LaunchShape{{blocks, 1, 1}, route_shared_bytes(args.n_experts)}, &args);
}

// Does nothing where that has been done.
void CudaPass::sort_columns(const ExpertWeights& w, const Routing& routing, const ExpertRoom& room) {
  if (sorted_ == routing.expert.data) return;
  launch_route(Kernel::sort_columns, 1, w, routing, room);
  sorted_ = routing.expert.data;
}

void CudaPass::multiply_experts(const ExpertWeights& w, const ExpertRoom& room, Mat in, int64_t slot_ld,
                                const Norm& norm, std::span<const ExpertProduct> products) {
  if (w.index == nullptr) context_.fail(make_error(ErrorCode::kInternal, "experts without an index"));
  if (!context_.status_.ok()) return;
  const auto fragments = [&](const ExpertProduct& p) {
    return in.rows > kFewRows && cuda_weight(*p.first[0]).format != Format::kF32;
  };
  OperandView act;
  act.data = room.act;
  act.n = room.n_columns;
  act.ld = round_up(in.cols, kTileColumns);
  act.tiled = context_.device_->has_warpgroups();
  if (std::any_of(products.begin(), products.end(), fragments)) make_operand(in, norm, act, room.places, slot_ld);
  for (const ExpertProduct& p : products) {
    LinearArgs args;
    args.n = static_cast<int32_t>(room.n_columns);
    args.k = static_cast<int32_t>(in.cols);
    args.x = in.data;
    args.ld_x = in.ld;
    args.norm = norm_view(norm);
    args.experts.groups = room.groups;
    args.experts.places = room.places;
    args.experts.n_groups = static_cast<int32_t>(room.n_groups);
    args.experts.group_columns = room.group_columns;
    args.experts.slot_ld_x = slot_ld;
    args.n_segments = 1;
    Segment& s = args.segment[0];
    for (int m = 0; m < 2; ++m) {
      const int used = p.first[m] != nullptr ? m : 0;
      s.w[m] = cuda_weight(*p.first[used]).view;
      args.experts.data[m] = reinterpret_cast<const uint8_t* const*>(w.index->data) + p.matrix[used] * w.n_experts();
    }
    s.output = p.output;
    s.out = p.out.data;
    s.ld = p.out.ld;
    s.slot_ld = p.slot_ld;
    if (fragments(p)) {
      args.act = act.data;
      args.ld_act = act.ld;
    }
    multiply_group(cuda_weight(*p.first[0]).format, args);
  }
}

// out = silu(gate) * up of the experts of each row.
void CudaPass::gate_experts(const ExpertWeights& w, const ExpertRoom& room, Mat x, const Norm& norm, Mat out) {
  const Mat activations = out.columns(0, w.n_used * w.width());
  ExpertProduct p[2];
  p[0].first[0] = &w.gate[0];
  p[0].matrix[0] = kGate;
  p[0].slot_ld = p[1].slot_ld = w.width();
  if (cuda_weight(w.gate[0]).format == cuda_weight(w.up[0]).format) {
    p[0].first[1] = &w.up[0];
    p[0].matrix[1] = kUp;
    p[0].output = Output::kSwiglu;
    p[0].out = activations;
    return multiply_experts(w, room, x, 0, norm, std::span(p, 1));
  }
  p[0].out = Mat::contiguous(room.products, activations.rows, activations.cols);
  p[1].first[0] = &w.up[0];
  p[1].matrix[0] = kUp;
  p[1].out = activations;
  multiply_experts(w, room, x, 0, norm, p);
  const IntoRowsArgs args = into_rows(p[0].out, activations);
  launch(Kernel::swiglu_rows, LaunchShape{{args.n, 1, 1}, 0}, &args);
}

void CudaPass::norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) {
  if (!context_.status_.ok() || x.rows == 0) return;
  Product scores[2];
  scores[0].weights[0] = &cuda_weight(w.router);
  scores[0].bias[0] = w.router.bias.get();
  scores[0].out = routing.scores;
  if (w.has_shared()) {
    scores[1].weights[0] = &cuda_weight(w.shared_router);
    scores[1].out = routing.weight.columns(w.n_used, 1);
  }
  multiply(x, norm, std::span(scores, w.has_shared() ? 2 : 1), LinearArgs{});
  const ExpertRoom room = expert_room(w, std::min(x.rows, kMostRows));
  if (!context_.status_.ok()) return;
  const int64_t blocks = rows_blocks(x.rows);
  launch_route(Kernel::choose_experts, blocks, w, routing, room);
  sorted_ = blocks == 1 ? routing.expert.data : nullptr;
  for_each_piece(x.rows, [&](int64_t first, int64_t count) {
    const ExpertRoom of_piece = expert_room(w, count);
    sort_columns(w, slice(routing, first, count), of_piece);
    gate_experts(w, of_piece, x.slice(first, count), norm, out.slice(first, count));
  });
  if (!w.has_shared()) return;
  norm_swiglu(x, norm, w.shared_gate, w.shared_up, out.columns(w.n_used * w.width(), w.shared_width()));
}

void CudaPass::experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) {
  if (!context_.status_.ok() || x.rows == 0) return;
  const int64_t width = w.width(), hidden = x.cols;
  for_each_piece(x.rows, [&](int64_t first, int64_t count) {
    const ExpertRoom room = expert_room(w, count);
    if (!context_.status_.ok()) return;
    const Mat from = in.slice(first, count), to = x.slice(first, count);
    const Mat products = Mat::contiguous(room.products, count, w.n_slots() * hidden);
    sort_columns(w, slice(routing, first, count), room);
    ExpertProduct p;
    p.first[0] = &w.down[0];
    p.matrix[0] = kDown;
    p.out = products;
    p.slot_ld = hidden;
    multiply_experts(w, room, from.columns(0, width), width, Norm{}, std::span(&p, 1));
    if (w.has_shared()) {
      Product shared;
      shared.weights[0] = &cuda_weight(w.shared_down);
      shared.bias[0] = w.shared_down.bias.get();
      shared.out = products.columns(w.n_used * hidden, hidden);
      multiply(from.columns(w.n_used * width, w.shared_width()), Norm{}, std::span(&shared, 1), LinearArgs{});
    }
    IntoRowsArgs args = into_rows(products, to);
    args.weights = routing.weight.row(first);
    args.ld_weights = routing.weight.ld;
    args.n_slots = static_cast<int32_t>(w.n_slots());
    launch_add(args);
  });
  sorted_ = nullptr;
}

}  // namespace glimpse::cuda
