// The vision encoder: Qwen2VisionTransformerPretrainedModel.forward in transformers, on Ops only.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/base/checked.h"
#include "engine/model/positions.h"
#include "engine/model/probe.h"
#include "engine/model/vision_encoder.h"
#include "engine/model/weights.h"

namespace glimpse {
namespace {

// Rows that pass through the feed-forward network, the merger and the patch upload at a time: their wide activations
// need not exist for the whole picture.
constexpr int64_t kChunkRows = 1024;

// Activations of one temporal slice of N patches, in the backend's memory.
struct VisionScratch {
  Mat x;           // (N, hidden_size), the residual stream
  Mat q;           // (N, hidden_size), queries after rotation
  Mat attn;        // (N, hidden_size), softmax(q k^T / sqrt(head_dim)) v
  Mat hidden;      // (chunk, widest of patch, feed-forward and merger rows)
  RopeTable rope;  // (N, head_dim / 2)
};

// x += fc2(QuickGELU(fc1(LayerNorm(x)))), some rows at a time.
void vision_ffn(Ops& op, const VisionLayerWeights& w, Activation activation, const VisionScratch& s, Probe& probe) {
  const int64_t width = w.fc1.bias->n_floats;
  for (int64_t first = 0; first < s.x.rows; first += kChunkRows) {
    const int64_t n = std::min(kChunkRows, s.x.rows - first);
    const Mat x = s.x.slice(first, n);
    const Mat h = Mat::contiguous(s.hidden.data, n, width);
    op.norm_linear(x, w.norm2, w.fc1, activation, h);  // h = act(W1 LayerNorm(x) + b1)
    probe.see_rows(h);
    op.linear_add(h, w.fc2, x);  // x += W2 h + b2
  }
  probe.finish("ffn", width);
}

// One block (Qwen2VLVisionBlock.forward): every patch sees every patch of its segment.
void vision_layer(Ops& op, const VisionLayerWeights& w, Activation activation, Segments segments,
                  const VisionScratch& s, Probe& probe) {
  op.norm_qkv(s.x, w.norm1, w.qkv, s.rope, segments, s.q);  // h = LayerNorm(x); q = rope(Wq h + bq); k, v stored
  probe.see("q", s.q);
  probe.see_kv(segments);
  op.attention(s.q, w.qkv.n_heads, segments, s.attn);
  probe.see("attn", s.attn);
  op.linear_add(s.attn, w.attn_output, s.x);  // x += Wo attn + bo
  probe.see("attn_out", s.x);
  vision_ffn(op, w, activation, s, probe);
  probe.see("ffn_out", s.x);
}

struct VisionSizes {
  int64_t patch_length, merged, hidden_width;  // row lengths
  int64_t chunk, x, hidden, rope, out;         // floats, but chunk: rows

  VisionSizes(const VisionConfig& c, int64_t max_patches) {
    const int64_t group = c.patch.merge_size * c.patch.merge_size;
    patch_length = 3 * c.patch.patch_size * c.patch.patch_size;
    merged = c.hidden_size * group;
    chunk = std::min(kChunkRows, max_patches);
    // Merger rows stand for `group` patches each.
    hidden_width = std::max({patch_length, c.intermediate_size, ceil_div(merged, group)});
    x = max_patches * c.hidden_size;
    hidden = std::max(chunk * hidden_width, merged);
    rope = max_patches * (c.head_dim / 2);
    out = std::max<int64_t>(1, chunk / group) * c.projection_dim;
  }
  uint64_t bytes() const { return sizeof(float) * static_cast<uint64_t>(3 * x + hidden + 4 * rope + out); }
};

// The rows and row lengths that products see.
struct Reserve {
  int64_t rows, cols;
};
std::vector<Reserve> reserves(const VisionConfig& c, const VisionSizes& sizes, int64_t max_patches) {
  return {{max_patches, c.hidden_size},
          {sizes.chunk, std::max(c.intermediate_size, sizes.patch_length)},
          {std::max<int64_t>(1, sizes.chunk / (c.patch.merge_size * c.patch.merge_size)), sizes.merged}};
}

}  // namespace

struct VisionEncoder::Impl {
  Impl(std::shared_ptr<const Model> m, Ops& o) : model(std::move(m)), ops(o) {}

  const std::shared_ptr<const Model> model;
  Ops& ops;
  int64_t max_patches = 0;
  std::unique_ptr<KvStore> kv;  // one layer's keys and values; every layer overwrites them
  std::unique_ptr<BackendBuffer> x, q, attn, hidden, rope_cos, rope_sin, out;
  std::vector<float> host_cos, host_sin;

  const VisionConfig& config() const { return model->vision(); }
  int64_t group() const { return config().patch.merge_size * config().patch.merge_size; }

  // One temporal slice: a still picture (frames[1] == nullptr) or two frames of a video.
  struct Slice {
    const Patches* frames[2] = {nullptr, nullptr};
    float* out = nullptr;  // (n_patches / group, projection_dim), host
    int64_t index = 0, count = 1;
  };

  VisionScratch scratch(int64_t n) const {
    const int64_t h = config().hidden_size, half = config().head_dim / 2;
    return {Mat::contiguous(x->data, n, h), Mat::contiguous(q->data, n, h), Mat::contiguous(attn->data, n, h),
            Mat::contiguous(hidden->data, 1, hidden->n_floats),
            RopeTable{Mat::contiguous(rope_cos->data, n, half), Mat::contiguous(rope_sin->data, n, half)}};
  }

  Status check(const Patches& patches) const;
  Result<ImageEmbedding> encode(std::span<const Patches> frames, bool video, const TapSink& tap,
                                const ProgressSink& progress);
  Status run_slice(const Slice& slice, const TapSink& tap, const ProgressSink& progress);
  Status compute(const Slice& slice, Probe& probe, const ProgressSink& progress, bool* finite);
  void embed_patches(const Slice& slice, const VisionScratch& s);
  void upload(const Patches& patches, int64_t first, int64_t n, Mat rows);
  void merge(const Slice& slice, const VisionScratch& s, Probe& probe, bool* finite);
};

VisionEncoder::VisionEncoder() = default;
VisionEncoder::~VisionEncoder() = default;

uint64_t VisionEncoder::plan_bytes(const Model& model, const Ops& ops, int64_t max_patches) {
  const VisionConfig& c = model.vision();
  const VisionSizes sizes(c, max_patches);
  uint64_t reserve = 0;
  for (const Reserve& r : reserves(c, sizes, max_patches)) {
    reserve = std::max(reserve, ops.reserve_bytes(r.rows, r.cols));
  }
  return sizes.bytes() + reserve + ops.kv_scratch_bytes(c.num_heads, c.head_dim, max_patches) +
         ops.kv_bytes(c.num_heads, c.head_dim, round_up(max_patches, kKeyBlock), model.vision_kv_element());
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
    return make_error(ErrorCode::kInvalidArgument, "an encoder for pictures of up to %lld patches",
                      static_cast<long long>(max_patches));
  }
  max_patches = round_up(max_patches, group);
  std::unique_ptr<VisionEncoder> encoder(new VisionEncoder());
  encoder->impl_ = std::make_unique<Impl>(model, ops);
  Impl& e = *encoder->impl_;
  e.max_patches = max_patches;
  const VisionSizes sizes(c, max_patches);
  GLIMPSE_ASSIGN(e.kv,
                 ops.make_kv(c.num_heads, c.head_dim, round_up(max_patches, kKeyBlock), model->vision_kv_element()));
  GLIMPSE_ASSIGN(e.x, ops.allocate(sizes.x, "vision residual stream"));
  GLIMPSE_ASSIGN(e.q, ops.allocate(sizes.x, "vision queries"));
  GLIMPSE_ASSIGN(e.attn, ops.allocate(sizes.x, "vision attention output"));
  GLIMPSE_ASSIGN(e.hidden, ops.allocate(sizes.hidden, "vision hidden activations"));
  GLIMPSE_ASSIGN(e.rope_cos, ops.allocate(sizes.rope, "vision rotation table"));
  GLIMPSE_ASSIGN(e.rope_sin, ops.allocate(sizes.rope, "vision rotation table"));
  GLIMPSE_ASSIGN(e.out, ops.allocate(sizes.out, "image embeddings"));
  for (const Reserve& r : reserves(c, sizes, max_patches)) GLIMPSE_TRY(ops.reserve(r.rows, r.cols));
  e.host_cos.resize(static_cast<size_t>(sizes.rope));
  e.host_sin.resize(static_cast<size_t>(sizes.rope));
  return encoder;
}

PatchForm VisionEncoder::patch_form() const {
  return impl_->ops.prefers_levels() ? PatchForm::kBytes : PatchForm::kValues;
}

Result<ImageEmbedding> VisionEncoder::encode(const Patches& patches, const TapSink& tap, const ProgressSink& progress) {
  return impl_->encode(std::span(&patches, 1), false, tap, progress);
}

Result<ImageEmbedding> VisionEncoder::encode_video(std::span<const Patches> frames, const TapSink& tap,
                                                   const ProgressSink& progress) {
  return impl_->encode(frames, true, tap, progress);
}

Status VisionEncoder::Impl::check(const Patches& patches) const {
  const VisionConfig& c = config();
  const GridThw& g = patches.grid;
  const int64_t m = c.patch.merge_size, length = 3 * c.patch.patch_size * c.patch.patch_size;
  const bool bytes = !patches.bytes.empty();
  const size_t n_values = bytes ? patches.bytes.size() : patches.values.size();
  if (g.t != 1 || g.h < 1 || g.w < 1 || g.h > 1 << 20 || g.w > 1 << 20 || g.h % m != 0 || g.w % m != 0 ||
      patches.row_length != length || static_cast<int64_t>(n_values) != g.n_patches() * length ||
      (bytes && (patches.levels.size() != 3 * 256 || !patches.values.empty()))) {
    return make_error(ErrorCode::kInvalidArgument,
                      "patches of %zu values in rows of %lld, grid %lld x %lld x %lld: want 1 x h x w rows of %lld, h "
                      "and w multiples of %lld",
                      n_values, static_cast<long long>(patches.row_length), static_cast<long long>(g.t),
                      static_cast<long long>(g.h), static_cast<long long>(g.w), static_cast<long long>(length),
                      static_cast<long long>(m));
  }
  if (g.n_patches() > max_patches) {
    return make_error(ErrorCode::kTooLarge, "a picture of %lld patches; this encoder was made for at most %lld",
                      static_cast<long long>(g.n_patches()), static_cast<long long>(max_patches));
  }
  return {};
}

Result<ImageEmbedding> VisionEncoder::Impl::encode(std::span<const Patches> frames, bool video, const TapSink& tap,
                                                   const ProgressSink& progress) {
  if (frames.empty()) return make_error(ErrorCode::kInvalidArgument, "a video of no frames");
  const VisionConfig& c = config();
  const GridThw& grid = frames[0].grid;
  for (const Patches& frame : frames) {
    GLIMPSE_TRY(check(frame));
    if (frame.grid.h != grid.h || frame.grid.w != grid.w) {
      return make_error(ErrorCode::kInvalidArgument, "frames of %lld x %lld and %lld x %lld patches in one video",
                        static_cast<long long>(grid.h), static_cast<long long>(grid.w),
                        static_cast<long long>(frame.grid.h), static_cast<long long>(frame.grid.w));
    }
  }
  const auto n_frames = static_cast<int64_t>(frames.size());
  ImageEmbedding embedding;
  embedding.grid = {video ? ceil_div(n_frames, 2) : 1, grid.h, grid.w};
  embedding.merge_size = c.patch.merge_size;
  embedding.n_tokens = embedding.grid.n_patches() / group();
  embedding.width = c.projection_dim;
  embedding.resized = {grid.w * c.patch.patch_size, grid.h * c.patch.patch_size};
  embedding.original = embedding.resized;
  embedding.values.resize(static_cast<size_t>(embedding.n_tokens * embedding.width));

  fill_vision_rope_table({1, grid.h, grid.w}, c.patch.merge_size, c.head_dim, host_cos.data(), host_sin.data());
  const int64_t slice_values = grid.h * grid.w / group() * c.projection_dim;
  for (int64_t t = 0; t < embedding.grid.t; ++t) {
    Slice slice;
    slice.frames[0] = &frames[static_cast<size_t>(2 * t)];
    if (video) slice.frames[1] = &frames[static_cast<size_t>(std::min(2 * t + 1, n_frames - 1))];  // the last, repeated
    slice.out = embedding.values.data() + t * slice_values;
    slice.index = t;
    slice.count = embedding.grid.t;
    GLIMPSE_TRY(run_slice(slice, tap, progress));
  }
  return embedding;
}

Status VisionEncoder::Impl::run_slice(const Slice& slice, const TapSink& tap, const ProgressSink& progress) {
  bool finite = true;
  Probe probe(ops, tap);
  GLIMPSE_TRY(compute(slice, probe, progress, &finite));
  if (finite) return {};
  // The same pass again, looking at every step, so that the message can name the first bad one.
  const TapSink no_tap;
  Probe search(ops, no_tap);
  search.search_non_finite();
  GLIMPSE_TRY(compute(slice, search, {}, &finite));
  return make_error(ErrorCode::kNumeric, "a NaN or an infinity in the vision encoder, first in %s",
                    search.first_non_finite().empty() ? "an unnamed step" : search.first_non_finite().c_str());
}

Status VisionEncoder::Impl::compute(const Slice& slice, Probe& probe, const ProgressSink& progress, bool* finite) {
  const VisionConfig& c = config();
  const VisionWeights& w = model->vision_weights();
  const int64_t n = slice.frames[0]->grid.n_patches();
  const VisionScratch s = scratch(n);
  const Activation activation = c.use_gelu ? Activation::kGeluTanh : Activation::kQuickGelu;
  const Segment picture{.kv = kv.get(), .n_rows = n, .causal = false};
  bool cancelled = false;
  GLIMPSE_TRY(ops.run([&] {
    ops.upload(host_cos.data(), n * (c.head_dim / 2), s.rope.cos.data);
    ops.upload(host_sin.data(), n * (c.head_dim / 2), s.rope.sin.data);
    embed_patches(slice, s);
    probe.enter("v.");
    probe.see("patch_embd", s.x);
    for (size_t layer = 0; layer < w.layers.size(); ++layer) {
      const double done =
          static_cast<double>(slice.index) + static_cast<double>(layer) / static_cast<double>(w.layers.size());
      if (progress && !progress("encode image", done / static_cast<double>(slice.count))) {
        cancelled = true;
        return;
      }
      if (probe.active()) probe.enter("v.blk." + std::to_string(layer) + ".");
      vision_layer(ops, w.layers[layer], activation, std::span(&picture, 1), s, probe);
    }
    merge(slice, s, probe, finite);
  }));
  if (cancelled) return make_error(ErrorCode::kCancelled, "the vision encoder was cancelled");
  return {};
}

// rows (n, row_length) = patches [first, first + n).
void VisionEncoder::Impl::upload(const Patches& patches, int64_t first, int64_t n, Mat rows) {
  const int64_t at = first * patches.row_length, n_floats = n * patches.row_length;
  if (patches.bytes.empty()) {
    ops.upload(patches.values.data() + at, n_floats, rows.data);
  } else {
    ops.upload_levels(patches.bytes.data() + at, n_floats, patches.row_length / 3, patches.levels.data(), rows.data);
  }
}

// x = K0 f0 + K1 f1, or (K0 + K1) f for a still picture.
void VisionEncoder::Impl::embed_patches(const Slice& slice, const VisionScratch& s) {
  const VisionWeights& w = model->vision_weights();
  const int64_t length = slice.frames[0]->row_length;
  const bool still = slice.frames[1] == nullptr;
  for (int64_t first = 0; first < s.x.rows; first += kChunkRows) {
    const int64_t n = std::min(kChunkRows, s.x.rows - first);
    const Mat in = Mat::contiguous(s.hidden.data, n, length), x_rows = s.x.slice(first, n);
    upload(*slice.frames[0], first, n, in);
    ops.norm_linear(in, Norm{}, still ? w.patch_embed_still : w.patch_embed_frame[0], Activation::kNone, x_rows);
    if (still) continue;
    upload(*slice.frames[1], first, n, in);
    ops.linear_add(in, w.patch_embed_frame[1], x_rows);
  }
}

// Four neighbouring patches become one token: out = W2 GELU(W0 [LN(x0) LN(x1) LN(x2) LN(x3)] + b0) + b2. Merge order
// makes them neighbours in memory too.
void VisionEncoder::Impl::merge(const Slice& slice, const VisionScratch& s, Probe& probe, bool* finite) {
  const VisionConfig& c = config();
  const VisionWeights& w = model->vision_weights();
  const Mat groups = s.x.join_rows(group());
  const int64_t chunk = std::max<int64_t>(1, kChunkRows / group());
  probe.enter("v.");
  for (int64_t first = 0; first < groups.rows; first += chunk) {
    const int64_t n = std::min(chunk, groups.rows - first);
    const Mat h = Mat::contiguous(s.hidden.data, n, groups.cols),
              tokens_out = Mat::contiguous(out->data, n, c.projection_dim);
    ops.norm_linear(groups.slice(first, n), w.merger_norm, w.merger_fc1, Activation::kGeluErf, h);
    probe.see_rows(h);
    ops.norm_linear(h, Norm{}, w.merger_fc2, Activation::kNone, tokens_out);
    *finite = ops.all_finite(tokens_out) && *finite;
    ops.download(tokens_out.data, n * c.projection_dim, slice.out + first * c.projection_dim);
  }
  probe.finish("merger", groups.cols);
  probe.see("embd", slice.out, groups.rows, c.projection_dim);
}

}  // namespace glimpse
