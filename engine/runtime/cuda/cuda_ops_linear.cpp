// CudaOps: matrix products with what is fused to them.
#include <algorithm>
#include <array>

#include "engine/base/checked.h"
#include "engine/runtime/cuda/cuda_ops.h"

namespace glimpse::cuda {

NormView norm_view(const Norm& norm) {
  NormView view;
  view.kind = static_cast<NormKind>(static_cast<int>(norm.kind));
  view.eps = norm.eps;
  view.width = static_cast<int32_t>(norm.width);
  if (norm.kind == Norm::Kind::kNone) return view;
  view.weight = norm.weight->data;
  if (norm.bias != nullptr) view.bias = norm.bias->data;
  return view;
}
static_assert(static_cast<int>(NormKind::kRms) == static_cast<int>(Norm::Kind::kRms) &&
              static_cast<int>(NormKind::kLayer) == static_cast<int>(Norm::Kind::kLayer));

bool CudaPass::is_operand(const Mat& m) const {
  if (m.read_by == nullptr || m.rows <= kFewRows || m.ld != m.cols) return false;
  if (static_cast<const CudaWeight*>(m.read_by)->format == Format::kF32) return false;
  const int64_t n_values = rows_size(context_.device_->has_warpgroups(), m.rows, round_up(m.cols, kTileColumns));
  return 2 * n_values <= 4 * m.rows * m.cols && reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}

OperandView CudaPass::start_operand(const Mat& m) {
  OperandView view;
  view.data = reinterpret_cast<uint16_t*>(m.data);
  view.n = m.rows;
  view.ld = round_up(m.cols, kTileColumns);
  view.tiled = context_.device_->has_warpgroups();
  if (view.ld == m.cols || !context_.status_.ok()) return view;
  // Tiled, the last tile of all rows lies together, behind the others.
  const auto n_values = static_cast<uint64_t>(rows_size(view.tiled, m.rows, view.ld));
  const uint64_t n_whole = view.tiled ? n_values / static_cast<uint64_t>(view.ld / kTileColumns) *
                                            static_cast<uint64_t>(view.ld / kTileColumns - 1)
                                      : 0;
  context_.fail(context_.stream_->zero(view.data + n_whole, (n_values - n_whole) * sizeof(uint16_t)));
  return view;
}

void CudaPass::make_operand(Mat values, const Norm& norm, const OperandView& operand, const ColumnPlace* places,
                            int64_t slot_ld) {
  RowsArgs rows;
  rows.x = values.data;
  rows.ld_x = values.ld;
  rows.places = places;
  rows.slot_ld_x = slot_ld;
  rows.n = static_cast<int32_t>(operand.n);
  rows.k = static_cast<int32_t>(values.cols);
  rows.norm = norm_view(norm);
  rows.out = operand.data;
  rows.ld_out = operand.ld;
  launch(operand.tiled ? Kernel::rows_tiled : Kernel::rows_bf16, LaunchShape{{rows_blocks(operand.n), 1, 1}, 0}, &rows);
}

// Until the next who asks.
Mat CudaPass::spare(int64_t rows, int64_t cols) {
  context_.fail(
      context_.grow(context_.spare_, static_cast<uint64_t>(rows * cols) * sizeof(float), "products of a pass"));
  return Mat::contiguous(context_.spare_.as<float>(), rows, cols);
}

// How a product of many rows becomes blocks: returns the columns of one.
int CudaPass::share_out(Format format, LinearArgs& args, int64_t n_groups) {
  if (!context_.device_->has_warpgroups()) return kGemmColumnsPerBlock;
  const int n_multiprocessors = context_.device_->n_multiprocessors(), k_tiles = args.segment[0].w[0].column_tiles;
  args.chunk_tiles = gemm_chunk_tiles(k_tiles);
  if (args.experts.groups != nullptr) return args.experts.group_columns;
  if (args.chunk_tiles == k_tiles) {
    return gemm_warpgroup_columns(format, n_groups, args.n, n_multiprocessors, context_.device_->has_clusters());
  }
  const int64_t blocks = n_groups * ceil_div(args.n, kGemmColumnsPerBlock);
  const int splits = gemm_splits(blocks, k_tiles, n_multiprocessors);
  const uint64_t n_bytes = static_cast<uint64_t>(blocks * splits) * kGemmBlockResults * sizeof(float);
  if (splits > 1 && n_bytes <= context_.partials_.size() &&
      static_cast<uint64_t>(blocks) * sizeof(int32_t) <= context_.tickets_.size()) {
    args.n_splits = splits;
    args.partial = context_.partials_.as<float>();
    args.tickets = context_.tickets_.as<int32_t>();
  }
  return args.n <= 64 ? 64 : kGemmColumnsPerBlock;
}

// One launch: args.segment[0, n_segments) are of one format.
void CudaPass::multiply_group(Format format, LinearArgs& args) {
  int64_t n_pairs = 0, n_groups = 0;
  for (int i = 0; i < args.n_segments; ++i) {
    Segment& s = args.segment[i];
    s.n_pairs = count_pairs(s);
    n_pairs += s.n_pairs;
    n_groups += ceil_div(s.n_pairs, kGemmPairsPerBlock);
  }
  const int column_tiles = args.segment[0].w[0].column_tiles;
  const ExpertsView& experts = args.experts;
  const auto column_groups = [&](int columns) {
    return experts.groups != nullptr ? int64_t{experts.n_groups} * (experts.group_columns / columns)
                                     : ceil_div(args.n, columns);
  };
  if (args.act != nullptr) {
    const bool warpgroups = context_.device_->has_warpgroups();
    const int columns = share_out(format, args, n_groups);
    LaunchShape shape{{n_groups, column_groups(columns), args.n_splits},
                      warpgroups ? gemm_warpgroup_shared_bytes(columns) : gemm_shared_bytes()};
    if (context_.device_->has_clusters() && experts.groups == nullptr) {
      shape.cluster = gemm_warpgroup_cluster(columns, n_groups, shape.grid[1] * shape.grid[2], args.n_splits,
                                             context_.device_->n_multiprocessors());
      shape.grid[0] = round_up(n_groups, shape.cluster);
    }
    launch(warpgroups ? gemm_warpgroup_kernel(format, columns) : gemm_kernel(format), shape, &args);
    return;
  }
  const int64_t together = experts.groups != nullptr ? experts.group_columns : args.n;
  const int columns = gemv_columns(format, together, column_tiles, context_.device_->max_shared_bytes());
  const Kernel kernel = gemv_kernel(format, columns);
  const int64_t groups = column_groups(columns);
  launch(kernel,
         LaunchShape{{gemv_blocks(n_pairs, groups, context_.device_->n_multiprocessors()), groups, 1},
                     gemv_shared_bytes(format, columns, column_tiles)},
         &args);
}

// One launch for one column: args.segment[0, n_first) are of the first format, the others of the second.
void CudaPass::multiply_pair(Kernel kernel, const FormatPair& formats, LinearArgs& args) {
  const int column_tiles = args.segment[0].w[0].column_tiles, n_multiprocessors = context_.device_->n_multiprocessors();
  int64_t n_pairs[2] = {0, 0};
  for (int i = 0; i < args.n_segments; ++i) {
    Segment& s = args.segment[i];
    s.n_pairs = count_pairs(s);
    n_pairs[i < args.n_first ? 0 : 1] += s.n_pairs;
  }
  // Blocks are shared out as pairs are.
  const int64_t all = gemv_blocks(n_pairs[0] + n_pairs[1], 1, n_multiprocessors);
  const int64_t second = std::clamp<int64_t>(all * n_pairs[1] / (n_pairs[0] + n_pairs[1]), 1, n_pairs[1]);
  const int64_t first = std::clamp<int64_t>(all - second, 1, n_pairs[0]);
  args.first_blocks = static_cast<int32_t>(first);
  launch(kernel,
         LaunchShape{{first + second, 1, 1},
                     std::max(gemv_shared_bytes(formats.first, 1, column_tiles),
                              gemv_shared_bytes(formats.second, 1, column_tiles))},
         &args);
}

// Products of norm(x): those of one format share a launch, and those of two where there is a kernel for it. `common`:
// rotation, cache, position.
void CudaPass::multiply(Mat x, const Norm& norm, std::span<const Product> products, LinearArgs common) {
  if (!context_.status_.ok() || x.rows == 0) return;
  common.n = static_cast<int32_t>(x.rows);
  common.k = static_cast<int32_t>(x.cols);
  common.x = x.data;
  common.ld_x = x.ld;
  common.norm = norm_view(norm);
  const bool ready = is_operand(x);
  OperandView act;
  act.n = x.rows;
  act.ld = round_up(x.cols, kTileColumns);
  act.tiled = context_.device_->has_warpgroups();
  const auto fragments = [&](const Product& p) { return x.rows > kFewRows && p.weights[0]->format != Format::kF32; };
  if (ready) {
    if (norm.kind != Norm::Kind::kNone || !std::all_of(products.begin(), products.end(), fragments)) {
      return context_.fail(make_error(ErrorCode::kInternal, "activations were kept for another product"));
    }
    act.data = reinterpret_cast<uint16_t*>(x.data);
  } else if (std::any_of(products.begin(), products.end(), fragments)) {
    context_.fail(context_.grow(context_.act_,
                                static_cast<uint64_t>(rows_size(act.tiled, x.rows, act.ld)) * sizeof(uint16_t),
                                "activations of a pass"));
    if (!context_.status_.ok()) return;
    act.data = context_.act_.as<uint16_t>();
    make_operand(x, norm, act);
  }
  std::array<bool, kMaxSegments> done{};
  const auto take = [&](Format format, LinearArgs& args) {
    for (size_t j = 0; j < products.size(); ++j) {
      const Product& p = products[j];
      if (done[j] || p.weights[0]->format != format) continue;
      done[j] = true;
      Segment& s = args.segment[args.n_segments++];
      for (int m = 0; m < 2; ++m) {
        s.w[m] = (p.weights[m] != nullptr ? p.weights[m] : p.weights[0])->view;
        s.bias[m] = p.bias[m] != nullptr ? p.bias[m]->data : nullptr;
      }
      s.output = p.output;
      s.activation = p.activation;
      s.half_tiles = p.half_tiles;
      s.out = p.out.data;
      s.ld = p.out.ld;
      if (is_operand(p.out)) s.operand = start_operand(p.out);
    }
  };
  for (size_t i = 0; x.rows == 1 && i < products.size(); ++i) {
    for (size_t j = 0; j < products.size(); ++j) {
      const FormatPair formats = {products[i].weights[0]->format, products[j].weights[0]->format};
      const Kernel kernel = gemv_kernel(formats.first, formats.second);
      if (done[i] || done[j] || kernel == Kernel::kCount) continue;
      LinearArgs args = common;
      take(formats.first, args);
      args.n_first = args.n_segments;
      take(formats.second, args);
      multiply_pair(kernel, formats, args);
    }
  }
  for (size_t i = 0; i < products.size(); ++i) {
    if (done[i]) continue;
    LinearArgs args = common;
    take(products[i].weights[0]->format, args);
    if (fragments(products[i])) {
      args.act = act.data;
      args.ld_act = act.ld;
    }
    multiply_group(products[i].weights[0]->format, args);
  }
}

void CudaPass::linear_add(Mat in, const Linear& w, Mat x) {
  Product p;
  p.weights[0] = &cuda_weight(w);
  p.bias[0] = w.bias.get();
  p.output = Output::kAdd;
  p.out = x;
  multiply(in, Norm{}, std::span(&p, 1), LinearArgs{});
}

void CudaPass::norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) {
  Product p;
  p.weights[0] = &cuda_weight(w);
  p.bias[0] = w.bias.get();
  p.activation = activation;
  p.out = out;
  LinearArgs common;
  if (x.rows == 1) common.best = rank(out);
  // The kernels of F32 store floats.
  const bool apart = p.weights[0]->format == Format::kF32 && is_operand(out);
  if (apart) p.out = spare(x.rows, out.cols);
  multiply(x, norm, std::span(&p, 1), common);
  if (apart) make_operand(p.out, Norm{}, start_operand(out));
}

void CudaPass::norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) {
  const CudaWeight &g = cuda_weight(gate), &u = cuda_weight(up);
  const bool apart = is_operand(out);
  if (g.format == u.format && !(apart && g.format == Format::kF32)) {
    Product p;
    p.weights[0] = &g;
    p.weights[1] = &u;
    p.bias[0] = gate.bias.get();
    p.bias[1] = up.bias.get();
    p.output = Output::kSwiglu;
    p.out = out;
    multiply(x, norm, std::span(&p, 1), LinearArgs{});
    return;
  }
  // Two formats cannot be in one launch: one of the two waits in spare memory, the gate, or what becomes the result
  // where `out` is to hold an operand.
  const Mat waiting = spare(x.rows, out.cols), floats = Mat::contiguous(out.data, out.rows, out.cols);
  if (!context_.status_.ok()) return;
  Product p[2];
  p[0].weights[0] = &g;
  p[0].bias[0] = gate.bias.get();
  p[0].out = apart ? floats : waiting;
  p[1].weights[0] = &u;
  p[1].bias[0] = up.bias.get();
  p[1].out = apart ? waiting : out;
  p[1].out.read_by = nullptr;
  multiply(x, norm, p, LinearArgs{});
  const IntoRowsArgs args = into_rows(p[0].out, p[1].out);
  launch(Kernel::swiglu_rows, LaunchShape{{args.n, 1, 1}, 0}, &args);
  if (apart) make_operand(p[1].out, Norm{}, start_operand(out));
}

void CudaPass::add(Mat in, Mat x) {
  if (x.rows > 0) launch_add(into_rows(in, x));
}

IntoRowsArgs CudaPass::into_rows(Mat from, Mat to) {
  IntoRowsArgs args;
  args.from = from.data;
  args.ld_from = from.ld;
  args.to = to.data;
  args.ld_to = to.ld;
  args.n = static_cast<int32_t>(to.rows);
  args.width = static_cast<int32_t>(to.cols);
  return args;
}

void CudaPass::launch_add(const IntoRowsArgs& args) {
  const int64_t pieces = ceil_div(args.width, kernel_info(Kernel::add_rows).n_threads);
  launch(Kernel::add_rows, LaunchShape{{args.n, pieces, 1}, 0}, &args);
}

void CudaPass::norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments, Mat q) {
  std::vector<glimpse::Segment> joined;  // windows of one picture follow each other in rows and slots
  for (const glimpse::Segment& s : segments) {
    glimpse::Segment* const last = joined.empty() ? nullptr : &joined.back();
    if (last != nullptr && s.kv == last->kv && s.first_row == last->first_row + last->n_rows &&
        s.n_past == last->n_past + last->n_rows) {
      last->n_rows += s.n_rows;
    } else {
      joined.push_back(s);
    }
  }
  for (Segments left = joined; !left.empty();) {
    const Segments now = taken_together(left);
    left = left.subspan(now.size());
    const int64_t first = now[0].first_row, n = now.back().first_row + now.back().n_rows - first;
    // A recorded step finds its row in the table by itself.
    const RopeTable rows = steps_ != nullptr ? rope : RopeTable{rope.cos.slice(first, n), rope.sin.slice(first, n)};
    qkv_together(x.slice(first, n), norm, w, rows, now, q.slice(first, n));
  }
}

void CudaPass::qkv_together(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments,
                            Mat q) {
  const KvView kv = static_cast<CudaKv&>(*segments[0].kv).view();
  // A thread ends with rows of two tiles: halves of a head, where these are whole tiles. It has no whole head, which a
  // norm needs.
  const bool normed = w.k_norm.kind != Norm::Kind::kNone;
  const bool several = steps_ != nullptr && x.rows > 1;  // whose places the products' kernels do not look up
  const bool fused = w.head_dim % (2 * kTileRows) == 0 && !normed && !several, q8 = kv.type == CacheType::kQ8_0;
  const bool apart = q8 || several;  // values, too, are stored by a launch of their own
  const int64_t kv_width = w.n_kv_heads * w.head_dim;
  Mat keys, values;  // on their way to the cache
  if (!fused || q8) {
    const uint64_t n_values = static_cast<uint64_t>(x.rows * kv_width) * (apart ? 2 : 1);
    context_.fail(context_.grow(context_.spare_, n_values * sizeof(float), "products of a pass"));
    keys = Mat::contiguous(context_.spare_.as<float>(), x.rows, kv_width);
    if (apart) values = Mat::contiguous(context_.spare_.as<float>() + x.rows * kv_width, x.rows, kv_width);
  }
  Product p[3];
  const Linear* const linears[3] = {&w.q, &w.k, &w.v};
  for (size_t i = 0; i < 3; ++i) {
    p[i].weights[0] = &cuda_weight(*linears[i]);
    p[i].bias[0] = linears[i]->bias.get();
    p[i].half_tiles = static_cast<int32_t>(w.head_dim / 2 / kTileRows);
  }
  p[0].output = fused ? Output::kRopeQuery : Output::kStore;
  p[0].out = q;
  p[1].output = fused && !q8 ? Output::kRopeKey : Output::kStore;
  p[1].out = keys;
  p[2].output = apart ? Output::kStore : Output::kValue;
  p[2].out = values;
  LinearArgs common;
  common.cos = rope.cos.data;
  common.sin = rope.sin.data;
  common.ld_rope = rope.cos.ld;
  common.at = {segments[0].n_past, steps_ == nullptr ? nullptr : steps_ + segments[0].first_row};
  common.kv = kv;
  common.more = more_parts(segments);
  multiply(x, norm, p, common);
  if ((fused && !q8) || x.rows == 0) return;
  RopeArgs args;
  args.q = fused ? nullptr : q.data;
  args.ld_q = q.ld;
  args.n_heads = static_cast<int32_t>(w.n_heads);
  args.keys = keys.data;
  args.values = values.data;
  args.ld_keys = keys.ld;
  args.cos = rope.cos.data;
  args.sin = rope.sin.data;
  args.ld_rope = rope.cos.ld;
  args.n = static_cast<int32_t>(x.rows);
  args.at = common.at;
  args.kv = kv;
  args.more = common.more;
  args.q_norm = norm_view(w.q_norm);
  args.k_norm = norm_view(w.k_norm);
  launch(q8 ? Kernel::store_q8 : Kernel::rope_rows, LaunchShape{{x.rows, 1, 1}, 0}, &args);
}

}  // namespace glimpse::cuda
