// The vision encoder: forward() of Qwen2VisionTransformerPretrainedModel, Qwen2_5_VisionTransformerPretrainedModel and
// Qwen3VLVisionModel in transformers, on Ops only.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/base/checked.h"
#include "engine/model/positions.h"
#include "engine/model/probe.h"
#include "engine/model/vision_encoder.h"
#include "engine/model/weights.h"
#include "engine/model/windows.h"
#include "engine/runtime/memory_list.h"

namespace glimpse {
namespace {

// Activations of one temporal slice of N patches, in the backend's memory.
struct VisionScratch {
  Mat x;           // (N, hidden_size), the residual stream
  Mat q;           // (N, hidden_size), queries after rotation
  Mat attn;        // (N, hidden_size), softmax(q k^T / sqrt(head_dim)) v
  Mat hidden;      // (chunk, widest of patch, feed-forward and merger rows)
  int64_t chunk;   // Ops::rows_at_once(): rows that pass through the wide operations together
  RopeTable rope;  // (N, head_dim / 2)
};

// x += fc2(activation(fc1(norm(x)))), or fc2(silu(gate(norm(x))) * fc1(norm(x))), some rows at a time.
void vision_ffn(Ops& op, const VisionLayerWeights& w, Activation activation, const VisionScratch& s, Probe& probe) {
  const int64_t width = w.fc1.weight->rows;
  for (int64_t first = 0; first < s.x.rows; first += s.chunk) {
    const int64_t n = std::min(s.chunk, s.x.rows - first);
    const Mat x = s.x.slice(first, n);
    const Mat h = probe.read_by(w.fc2, Mat::contiguous(s.hidden.data, n, width));
    if (w.gate.weight != nullptr) {
      op.norm_swiglu(x, w.norm2, w.gate, w.fc1, h);  // h = silu(Wg norm(x) + bg) * (W1 norm(x) + b1)
    } else {
      op.norm_linear(x, w.norm2, w.fc1, activation, h);  // h = act(W1 norm(x) + b1)
    }
    probe.see_rows(h);
    op.linear_add(h, w.fc2, x);  // x += W2 h + b2
  }
  probe.finish("ffn", width);
}

// One block (Qwen2VLVisionBlock.forward and its like): every patch sees every patch of its segment.
void vision_layer(Ops& op, const VisionLayerWeights& w, Activation activation, Segments segments,
                  const VisionScratch& s, Probe& probe) {
  op.norm_qkv(s.x, w.norm1, w.qkv, s.rope, segments, s.q);  // h = norm(x); q = rope(Wq h + bq); k, v stored
  probe.see("q", s.q);
  probe.see_kv(segments);
  const Mat attn = probe.read_by(w.attn_output, s.attn);
  op.attention(s.q, w.qkv.n_heads, segments, attn);
  probe.see("attn", attn);
  op.linear_add(attn, w.attn_output, s.x);  // x += Wo attn + bo
  probe.see("attn_out", s.x);
  vision_ffn(op, w, activation, s, probe);
  probe.see("ffn_out", s.x);
}

struct VisionSizes {
  int64_t patch_length, merged;         // row lengths
  int64_t chunk, x, hidden, rope, out;  // floats, but chunk: rows
  int64_t keys;                         // positions of the store

  VisionSizes(const VisionConfig& c, const Ops& ops, int64_t max_patches) {
    const int64_t group = c.patch.merge_size * c.patch.merge_size;
    patch_length = 3 * c.patch.patch_size * c.patch.patch_size;
    merged = c.hidden_size * group;
    chunk = std::min(ops.rows_at_once(), max_patches);
    // Merger rows stand for `group` patches each.
    const int64_t hidden_width = std::max({patch_length, c.intermediate_size, ceil_div(merged, group)});
    x = max_patches * c.hidden_size;
    hidden = std::max(chunk * hidden_width, merged);
    rope = max_patches * (c.head_dim / 2);
    out = std::max<int64_t>(1, chunk / group) * c.projection_dim;
    // Windows begin where panels may be cut. Where a row of one is no whole number of panels, the smallest, of one
    // cell, takes a panel; otherwise the last alone is cut.
    const bool whole = c.window_cells * group % kKeyAlign == 0;
    keys = round_up(max_patches, kKeyBlock);
    if (c.window_cells > 0) {
      keys = round_up((whole ? max_patches : max_patches / group * round_up(group, kKeyAlign)) + kKeyStep, kKeyBlock);
    }
  }
};

// What an encoder allocates.
struct VisionMemory {
  std::unique_ptr<KvStore> kv;  // one layer's keys and values; every layer overwrites them
  std::unique_ptr<BackendBuffer> x, q, attn, hidden, rope_cos, rope_sin, out;
  std::vector<float> host_cos, host_sin;
  std::vector<float> host_positions;  // (chunk, hidden_size), where there is a table of positions
  std::vector<float> host_out;        // (chunk / group, projection_dim), where an embedding's rows have several pieces
};

MemoryList list_memory(const Model& model, const Ops& ops, int64_t max_patches, VisionMemory& to) {
  const VisionConfig& c = model.vision();
  const VisionSizes sizes(c, ops, max_patches);
  MemoryList list;
  list.kv(c.num_heads, c.head_dim, sizes.keys, model.vision_kv_element(), to.kv);
  list.buffer("vision residual stream", sizes.x, to.x);
  list.buffer("vision queries", sizes.x, to.q);
  list.buffer("vision attention output", sizes.x, to.attn);
  list.buffer("vision hidden activations", sizes.hidden, to.hidden);
  list.buffer("vision rotation table, cosines", sizes.rope, to.rope_cos);
  list.buffer("vision rotation table, sines", sizes.rope, to.rope_sin);
  list.buffer("image embeddings", sizes.out, to.out);
  list.host("vision rotations, cosines", sizes.rope, to.host_cos);
  list.host("vision rotations, sines", sizes.rope, to.host_sin);
  if (c.position_side > 0) list.host("positions of patches", sizes.chunk * c.hidden_size, to.host_positions);
  if (!c.deepstack_layers.empty()) list.host("pieces of image embeddings", sizes.out, to.host_out);
  list.product(max_patches, c.hidden_size);
  list.product(sizes.chunk, std::max(c.intermediate_size, sizes.patch_length));
  list.product(std::max<int64_t>(1, sizes.chunk / (c.patch.merge_size * c.patch.merge_size)), sizes.merged);
  return list;
}

}  // namespace

struct VisionEncoder::Impl {
  Impl(std::shared_ptr<const Model> m, Ops& o) : model(std::move(m)), ops(o) {}

  const std::shared_ptr<const Model> model;
  Ops& ops;
  int64_t max_patches = 0;
  VisionMemory memory;

  const VisionConfig& config() const { return model->vision(); }
  // A whole number of cells.
  int64_t chunk_rows() const { return std::max<int64_t>(1, ops.rows_at_once() / group()) * group(); }
  int64_t group() const { return config().patch.merge_size * config().patch.merge_size; }

  // A still picture (frames[1] == nullptr) or two frames of a video: patches that see one another.
  struct Slice {
    const Patches* frames[2] = {nullptr, nullptr};
    float* out = nullptr;  // (n_patches / group, embedding_width), host

    int64_t n_patches() const { return frames[0]->n_rows(); }
  };
  // Slices that go through together.
  struct Pass {
    std::span<const Slice> slices;
    std::vector<Segment> segments;      // one per slice
    std::vector<Segment> windows;       // those of all slices, where there are any
    std::vector<WindowLayout> layouts;  // of each slice
    int64_t n_rows = 0;
    int64_t rows_before = 0, rows_total = 0;  // for progress
  };

  VisionScratch scratch(int64_t n) const {
    const int64_t h = config().hidden_size, half = config().head_dim / 2;
    const VisionMemory& m = memory;
    return {Mat::contiguous(m.x->data, n, h),
            Mat::contiguous(m.q->data, n, h),
            Mat::contiguous(m.attn->data, n, h),
            Mat::contiguous(m.hidden->data, 1, m.hidden->n_floats),
            ops.rows_at_once(),
            RopeTable{Mat::contiguous(m.rope_cos->data, n, half), Mat::contiguous(m.rope_sin->data, n, half)}};
  }

  Status check(const Patches& patches) const;
  ImageEmbedding outline(const GridThw& grid, std::span<const int32_t> cells = {}) const;
  Status run(std::span<const Slice> slices, const TapSink& tap, const ProgressSink& progress);
  Pass first_pass(std::span<const Slice> slices, bool alone) const;
  Status run_pass(const Pass& pass, const TapSink& tap, const ProgressSink& progress);
  Status compute(const Pass& pass, Probe& probe, const ProgressSink& progress, bool* finite);
  void embed_patches(const Slice& slice, const WindowLayout& layout, Mat x, Mat hidden_rows);
  void upload(const Patches& patches, const WindowLayout& layout, int64_t first, Mat rows);
  void add_positions(const Slice& slice, const WindowLayout& layout, int64_t first, Mat to_rows);
  void merge(const Pass& pass, const MergerWeights& w, int64_t piece, const VisionScratch& s, Probe& probe,
             bool* finite);
  void download(const Pass& pass, Mat tokens, int64_t first, int64_t piece);
};

VisionEncoder::VisionEncoder() = default;
VisionEncoder::~VisionEncoder() = default;

uint64_t VisionEncoder::plan_bytes(const Model& model, const Ops& ops, int64_t max_patches) {
  const PatchConfig& patch = model.vision().patch;
  VisionMemory none;
  return list_memory(model, ops, round_up(max_patches, patch.merge_size * patch.merge_size), none).bytes(ops);
}

Result<std::unique_ptr<VisionEncoder>> VisionEncoder::create(std::shared_ptr<const Model> model, Ops& ops,
                                                             int64_t max_patches) {
  if (!model->has_vision()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the model was loaded without an mmproj file: it cannot see pictures");
  }
  const VisionConfig& c = model->vision();
  const int64_t group = c.patch.merge_size * c.patch.merge_size;
  if (max_patches < group || max_patches > int64_t{1} << 30) {
    return make_error(ErrorCode::kInvalidArgument, "an encoder for pictures of up to %d patches", max_patches);
  }
  max_patches = round_up(max_patches, group);
  std::unique_ptr<VisionEncoder> encoder(new VisionEncoder());
  encoder->impl_ = std::make_unique<Impl>(model, ops);
  Impl& e = *encoder->impl_;
  e.max_patches = max_patches;
  GLIMPSE_TRY(list_memory(*model, ops, max_patches, e.memory).allocate(ops));
  return encoder;
}

PatchForm VisionEncoder::patch_form() const {
  return impl_->ops.prefers_levels() ? PatchForm::kBytes : PatchForm::kValues;
}

Result<ImageEmbedding> VisionEncoder::encode(const Patches& patches, const TapSink& tap, const ProgressSink& progress) {
  GLIMPSE_ASSIGN(std::vector<ImageEmbedding> one, encode(std::span(&patches, 1), tap, progress));
  return std::move(one[0]);
}

Result<std::vector<ImageEmbedding>> VisionEncoder::encode(std::span<const Patches> pictures, const TapSink& tap,
                                                          const ProgressSink& progress) {
  std::vector<ImageEmbedding> embeddings;
  for (const Patches& patches : pictures) {
    GLIMPSE_TRY(impl_->check(patches));
    embeddings.push_back(impl_->outline(patches.grid, patches.cells));
  }
  std::vector<Impl::Slice> slices;
  for (size_t i = 0; i < pictures.size(); ++i) slices.push_back({{&pictures[i]}, embeddings[i].values.data()});
  GLIMPSE_TRY(impl_->run(slices, tap, progress));
  return embeddings;
}

Result<ImageEmbedding> VisionEncoder::encode_video(std::span<const Patches> frames, const TapSink& tap,
                                                   const ProgressSink& progress) {
  if (frames.empty()) return make_error(ErrorCode::kInvalidArgument, "a video of no frames");
  const GridThw& grid = frames[0].grid;
  for (const Patches& frame : frames) {
    GLIMPSE_TRY(impl_->check(frame));
    if (!frame.cells.empty())
      return make_error(ErrorCode::kInvalidArgument, "a video's frame without some of its cells");
    if (frame.grid.h != grid.h || frame.grid.w != grid.w) {
      return make_error(ErrorCode::kInvalidArgument, "frames of %d x %d and %d x %d patches in one video", grid.h,
                        grid.w, frame.grid.h, frame.grid.w);
    }
  }
  const size_t n_slices = (frames.size() + 1) / 2;
  ImageEmbedding embedding = impl_->outline({static_cast<int64_t>(n_slices), grid.h, grid.w});
  embedding.is_video = true;
  std::vector<Impl::Slice> slices;
  for (size_t t = 0; t < n_slices; ++t) {  // the last frame, repeated, where there is no second
    slices.push_back({{&frames[2 * t], &frames[std::min(2 * t + 1, frames.size() - 1)]},
                      embedding.values.data() + t * (embedding.values.size() / n_slices)});
  }
  GLIMPSE_TRY(impl_->run(slices, tap, progress));
  return embedding;
}

Status VisionEncoder::Impl::check(const Patches& patches) const {
  const VisionConfig& c = config();
  const GridThw& g = patches.grid;
  const int64_t m = c.patch.merge_size, length = 3 * c.patch.patch_size * c.patch.patch_size;
  const bool bytes = !patches.bytes.empty();
  const size_t n_values = bytes ? patches.bytes.size() : patches.values.size();
  const int64_t n_cells = g.n_patches() / (m * m);
  if (!are_cells(patches.cells, n_cells)) {
    return make_error(ErrorCode::kInvalidArgument, "%d cells, which are no part of a grid of %d", patches.cells.size(),
                      n_cells);
  }
  const int64_t n_patches = patches.cells.empty() ? g.n_patches() : static_cast<int64_t>(patches.cells.size()) * m * m;
  if (g.t != 1 || g.h < 1 || g.w < 1 || g.h > 1 << 20 || g.w > 1 << 20 || g.h % m != 0 || g.w % m != 0 ||
      patches.row_length != length || static_cast<int64_t>(n_values) != n_patches * length ||
      (bytes && (patches.levels.size() != 3 * 256 || !patches.values.empty()))) {
    return make_error(ErrorCode::kInvalidArgument,
                      "patches of %d values in rows of %d, grid %d x %d x %d: want 1 x h x w rows of %d, h "
                      "and w multiples of %d",
                      n_values, patches.row_length, g.t, g.h, g.w, length, m);
  }
  if (g.n_patches() > max_patches) {
    return make_error(ErrorCode::kTooLarge, "a picture of %d patches; this encoder was made for at most %d",
                      g.n_patches(), max_patches);
  }
  return {};
}

ImageEmbedding VisionEncoder::Impl::outline(const GridThw& grid, std::span<const int32_t> cells) const {
  const VisionConfig& c = config();
  ImageEmbedding embedding;
  embedding.grid = grid;
  embedding.merge_size = c.patch.merge_size;
  embedding.cells.assign(cells.begin(), cells.end());
  embedding.n_tokens = cells.empty() ? grid.n_patches() / group() : static_cast<int64_t>(cells.size());
  embedding.width = c.embedding_width();
  embedding.resized = {grid.w * c.patch.patch_size, grid.h * c.patch.patch_size};
  embedding.original = embedding.resized;
  embedding.fingerprint = model->vision_fingerprint();
  embedding.values.resize(static_cast<size_t>(embedding.n_tokens * embedding.width));
  return embedding;
}

namespace {

// Segments one behind the other in one store. Keys begin where panels may be cut; of large ones, which may become int8,
// whole blocks are their own.
class SegmentRow {
 public:
  SegmentRow(KvStore* kv, bool int8) : kv_(kv), int8_(int8) {}
  // False: there is no room for it.
  bool append(int64_t n, std::vector<Segment>& segments) {
    const int64_t unit = n > kKeyBlock ? kKeyBlock : kKeyAlign, first_key = round_up(position_, unit);
    if (first_key + round_up(n, kKeyStep) > kv_->capacity) return false;
    segments.push_back({.kv = kv_,
                        .first_row = first_row_,
                        .n_rows = n,
                        .n_past = first_key,
                        .first_key = first_key,
                        .causal = false,
                        .int8 = int8_});
    first_row_ += n;
    position_ = first_key + round_up(n, unit);
    return true;
  }

 private:
  KvStore* const kv_;
  const bool int8_;
  int64_t first_row_ = 0, position_ = 0;
};

}  // namespace

// As many of the slices as the scratch takes, from the first on.
VisionEncoder::Impl::Pass VisionEncoder::Impl::first_pass(std::span<const Slice> slices, bool alone) const {
  Pass pass;
  SegmentRow whole(memory.kv.get(), model->vision_int8_keys()), windows = whole;
  for (const Slice& slice : slices) {
    const int64_t n = slice.n_patches(), merge_size = config().patch.merge_size;
    const GridThw& grid = slice.frames[0]->grid;
    if (!pass.segments.empty() && (alone || pass.n_rows + n > max_patches)) break;
    WindowLayout layout(grid.h / merge_size, grid.w / merge_size, config().window_cells, slice.frames[0]->cells);
    const size_t n_windows = pass.windows.size(), n_segments = pass.segments.size();
    bool fits = whole.append(n, pass.segments);
    for (const int64_t cells : layout.windows) fits = fits && windows.append(cells * group(), pass.windows);
    if (!fits) {
      pass.segments.resize(n_segments);
      pass.windows.resize(n_windows);
      break;
    }
    pass.layouts.push_back(std::move(layout));
    pass.n_rows += n;
  }
  pass.slices = slices.first(pass.segments.size());
  return pass;
}

Status VisionEncoder::Impl::run(std::span<const Slice> slices, const TapSink& tap, const ProgressSink& progress) {
  int64_t n = 0, done = 0;
  for (const Slice& slice : slices) n += slice.n_patches();
  while (!slices.empty()) {
    Pass pass = first_pass(slices, static_cast<bool>(tap));
    if (pass.slices.empty()) return make_error(ErrorCode::kInternal, "no room for the windows of a picture");
    pass.rows_before = done;
    pass.rows_total = n;
    GLIMPSE_TRY(run_pass(pass, tap, progress));
    done += pass.n_rows;
    slices = slices.subspan(pass.slices.size());
  }
  return {};
}

Status VisionEncoder::Impl::run_pass(const Pass& pass, const TapSink& tap, const ProgressSink& progress) {
  bool finite = true;
  Probe probe(ops, tap);
  GLIMPSE_TRY(compute(pass, probe, progress, &finite));
  if (finite) return {};
  // The same pass again, looking at every step, so that the message can name the first bad one.
  const TapSink no_tap;
  Probe search(ops, no_tap);
  search.search_non_finite();
  GLIMPSE_TRY(compute(pass, search, {}, &finite));
  return make_error(ErrorCode::kNumeric, "a NaN or an infinity in the vision encoder, first in %s",
                    search.first_non_finite().empty() ? "an unnamed step" : search.first_non_finite().c_str());
}

Status VisionEncoder::Impl::compute(const Pass& pass, Probe& probe, const ProgressSink& progress, bool* finite) {
  const VisionConfig& c = config();
  const VisionWeights& w = model->vision_weights();
  const VisionScratch s = scratch(pass.n_rows);
  const int64_t half = c.head_dim / 2;
  const Activation activation = c.use_gelu ? Activation::kGeluTanh : Activation::kQuickGelu;
  for (size_t i = 0; i < pass.slices.size(); ++i) {
    const GridThw& grid = pass.slices[i].frames[0]->grid;
    const int64_t at = pass.segments[i].first_row * half;
    fill_vision_rope_table({1, grid.h, grid.w}, c.patch.merge_size, c.head_dim, pass.layouts[i],
                           memory.host_cos.data() + at, memory.host_sin.data() + at, pass.slices[i].frames[0]->cells);
  }
  bool cancelled = false;
  GLIMPSE_TRY(ops.run([&] {
    ops.upload(memory.host_cos.data(), pass.n_rows * half, s.rope.cos.data);
    ops.upload(memory.host_sin.data(), pass.n_rows * half, s.rope.sin.data);
    for (size_t i = 0; i < pass.slices.size(); ++i) {
      embed_patches(pass.slices[i], pass.layouts[i], s.x.slice(pass.segments[i].first_row, pass.segments[i].n_rows),
                    s.hidden);
    }
    probe.enter("v.");
    probe.see("patch_embd", s.x);
    size_t n_taps = 0;
    for (size_t layer = 0; layer < w.layers.size(); ++layer) {
      const double done = static_cast<double>(pass.rows_before) + static_cast<double>(pass.n_rows) *
                                                                      static_cast<double>(layer) /
                                                                      static_cast<double>(w.layers.size());
      if (progress && !progress("encode image", done / static_cast<double>(pass.rows_total))) {
        cancelled = true;
        return;
      }
      if (probe.active()) probe.enter("v.blk." + std::to_string(layer) + ".");
      const bool whole = c.window_cells == 0 || c.full_attention[layer];
      vision_layer(ops, w.layers[layer], activation, whole ? pass.segments : pass.windows, s, probe);
      if (n_taps < c.deepstack_layers.size() && c.deepstack_layers[n_taps] == static_cast<int64_t>(layer)) {
        if (probe.active()) probe.enter("v.deepstack." + std::to_string(n_taps) + ".");
        merge(pass, w.deepstack[n_taps], static_cast<int64_t>(n_taps) + 1, s, probe, finite);
        ++n_taps;
      }
    }
    probe.enter("v.");
    merge(pass, w.merger, 0, s, probe, finite);
    // With a tap, a pass has one slice.
    if (pass.slices.size() == 1) {
      probe.see("embd", pass.slices[0].out, s.x.rows / group(), c.embedding_width());
    }
  }));
  if (cancelled) return make_error(ErrorCode::kCancelled, "the vision encoder was cancelled");
  return {};
}

// rows (n, row_length) = the encoder's patches [first, first + n).
void VisionEncoder::Impl::upload(const Patches& patches, const WindowLayout& layout, int64_t first, Mat rows) {
  const int64_t patch_values = patches.row_length, cell_values = group() * patch_values;
  layout.for_runs(first / group(), rows.rows / group(), [&](int64_t to, int64_t from, int64_t count) {
    const int64_t at = from * cell_values, n_floats = count * cell_values;
    float* const at_rows = rows.row(to * group() - first);
    if (patches.bytes.empty()) {
      ops.upload(patches.values.data() + at, n_floats, at_rows);
    } else {
      ops.upload_levels(patches.bytes.data() + at, n_floats, patch_values / 3, patches.levels.data(), at_rows);
    }
  });
}

// to_rows = the positions of the encoder's patches [first, first + to_rows.rows).
void VisionEncoder::Impl::add_positions(const Slice& slice, const WindowLayout& layout, int64_t first, Mat to_rows) {
  const VisionConfig& c = config();
  const std::vector<float>& table = model->vision_weights().positions;
  layout.for_runs(first / group(), to_rows.rows / group(), [&](int64_t to, int64_t from, int64_t count) {
    const PositionTable positions{table.data(), c.position_side, c.hidden_size};
    const int64_t n = count * group(), patch = from * group();
    float* const values = memory.host_positions.data() + (to * group() - first) * c.hidden_size;
    const auto fill = [&](int, int64_t begin, int64_t end) {
      stretch_positions(positions, slice.frames[0]->grid, c.patch.merge_size, patch + begin, end - begin,
                        values + begin * c.hidden_size, slice.frames[0]->cells);
    };
    if (ThreadTeam* team = ops.team()) {
      team->for_ranges(n, Grain{.most = 32, .least = 8}, fill);
    } else {
      fill(0, 0, n);
    }
  });
  ops.upload(memory.host_positions.data(), to_rows.rows * c.hidden_size, to_rows.data);
}

// x = K0 f0 + K1 f1 + b, or (K0 + K1) f + b for a still picture; and the patches' positions, where they are learned.
void VisionEncoder::Impl::embed_patches(const Slice& slice, const WindowLayout& layout, Mat x_all, Mat hidden_rows) {
  const VisionWeights& w = model->vision_weights();
  const int64_t length = slice.frames[0]->row_length;
  const bool still = slice.frames[1] == nullptr;
  for (int64_t first = 0; first < x_all.rows; first += chunk_rows()) {
    const int64_t n = std::min(chunk_rows(), x_all.rows - first);
    const Mat in = Mat::contiguous(hidden_rows.data, n, length), x_rows = x_all.slice(first, n);
    upload(*slice.frames[0], layout, first, in);
    const Linear& kernel = still ? w.patch_embed_still : w.patch_embed_frame[0];
    if (w.positions.empty()) {
      ops.norm_linear(in, Norm{}, kernel, Activation::kNone, x_rows);
    } else {
      add_positions(slice, layout, first, x_rows);
      ops.linear_add(in, kernel, x_rows);
    }
    if (still) continue;
    upload(*slice.frames[1], layout, first, in);
    ops.linear_add(in, w.patch_embed_frame[1], x_rows);
  }
}

// Four neighbouring patches become one token: out = W2 GELU(W1 norm([x0 x1 x2 x3]) + b1) + b2, patch by patch or all
// four as the norm is wide. Merge order makes them neighbours in memory too. piece: of the embeddings' rows.
void VisionEncoder::Impl::merge(const Pass& pass, const MergerWeights& w, int64_t piece, const VisionScratch& s,
                                Probe& probe, bool* finite) {
  const int64_t width = config().projection_dim;
  const Mat groups = s.x.join_rows(group());
  const int64_t chunk = chunk_rows() / group();
  for (int64_t first = 0; first < groups.rows; first += chunk) {
    const int64_t n = std::min(chunk, groups.rows - first);
    const Mat h = probe.read_by(w.fc2, Mat::contiguous(s.hidden.data, n, groups.cols));
    const Mat tokens = Mat::contiguous(memory.out->data, n, width);
    ops.norm_linear(groups.slice(first, n), w.norm, w.fc1, Activation::kGeluErf, h);
    probe.see_rows(h);
    ops.norm_linear(h, Norm{}, w.fc2, Activation::kNone, tokens);
    *finite = ops.all_finite(tokens) && *finite;
    download(pass, tokens, first, piece);
  }
  probe.finish("merger", groups.cols);
}

// tokens: the encoder's cells from `first` on, over all slices; to where they belong in the slices' embeddings.
void VisionEncoder::Impl::download(const Pass& pass, Mat tokens, int64_t first, int64_t piece) {
  const int64_t width = tokens.cols, row_width = config().embedding_width();
  if (row_width != width) ops.download(tokens.data, tokens.rows * width, memory.host_out.data());
  int64_t slice_begin = 0;  // its first cell
  for (size_t i = 0; i < pass.slices.size(); ++i) {
    const int64_t n_cells = pass.slices[i].n_patches() / group();
    const int64_t begin = std::max(first, slice_begin), end = std::min(first + tokens.rows, slice_begin + n_cells);
    if (begin < end) {
      pass.layouts[i].for_runs(begin - slice_begin, end - begin, [&](int64_t to, int64_t from, int64_t count) {
        const int64_t row = slice_begin + to - first;
        float* const out_rows = pass.slices[i].out + from * row_width + piece * width;
        if (row_width == width) return ops.download(tokens.row(row), count * width, out_rows);
        for (int64_t c = 0; c < count; ++c) {
          std::copy_n(memory.host_out.data() + (row + c) * width, width, out_rows + c * row_width);
        }
      });
    }
    slice_begin += n_cells;
  }
}

}  // namespace glimpse
