// The decoder: Qwen2VLTextModel.forward in transformers, on Ops only.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/base/checked.h"
#include "engine/model/decode_steps.h"
#include "engine/model/model.h"
#include "engine/model/probe.h"
#include "engine/model/weights.h"

namespace glimpse {
namespace {

// Rows whose logits are computed at once when all are wanted: enough to read the head's weights once for several rows,
// few enough that (rows, vocab_size) floats stay small.
constexpr int64_t kLogitRows = 8;

// Activations of one pass over T rows, in the backend's memory.
struct DecoderScratch {
  Mat x;           // (T, hidden_size), the residual stream
  Mat q;           // (T, n_heads * head_dim), queries after rotation
  Mat attn;        // (T, n_heads * head_dim), softmax(q k^T / sqrt(head_dim)) v
  Mat ffn;         // (T, intermediate_size), silu(gate) * up
  RopeTable rope;  // (T, head_dim / 2)
};

// One decoder layer (Qwen2VLDecoderLayer.forward). x is updated in place.
void decoder_layer(Ops& op, const DecoderLayerWeights& w, Segments segments, const DecoderScratch& s, Probe& probe) {
  op.norm_qkv(s.x, w.attn_norm, w.qkv, s.rope, segments, s.q);  // h = RMSNorm(x); q = rope(Wq h + bq); k, v stored
  probe.see("q", s.q);
  probe.see_kv(segments);
  op.attention(s.q, w.qkv.n_heads, segments, s.attn);
  probe.see("attn", s.attn);
  op.linear_add(s.attn, w.attn_output, s.x);  // x += Wo attn
  probe.see("attn_out", s.x);
  op.norm_swiglu(s.x, w.ffn_norm, w.ffn_gate, w.ffn_up, s.ffn);  // h = RMSNorm(x); ffn = silu(Wg h) * (Wu h)
  probe.see("ffn", s.ffn);
  op.linear_add(s.ffn, w.ffn_down, s.x);  // x += Wd ffn
  probe.see("ffn_out", s.x);
}

// Floats of each buffer of a decoder.
struct DecoderSizes {
  int64_t x, q, ffn, rope, logits;
  DecoderSizes(const TextConfig& c, int64_t batch)
      : x(batch * c.hidden_size),
        q(batch * c.num_attention_heads * c.head_dim),
        ffn(batch * c.intermediate_size),
        rope(batch * (c.head_dim / 2)),
        logits(std::min(batch, kLogitRows) * c.vocab_size) {}
  uint64_t bytes() const { return sizeof(float) * static_cast<uint64_t>(x + 2 * q + ffn + 4 * rope + logits); }
};

// Scratch is reserved for rows of this width: inputs, and keys and values on their way to the cache.
int64_t widest_input(const TextConfig& c) {
  return std::max(
      {c.hidden_size, c.num_attention_heads * c.head_dim, 2 * c.num_key_value_heads * c.head_dim, c.intermediate_size});
}

// Floats of one rotation table for recorded steps.
int64_t step_rope_floats(const TextConfig& c, const Ops& ops, int64_t context) {
  return ops.records_steps() ? context * (c.head_dim / 2) : 0;
}

}  // namespace

struct TextDecoder::Impl {
  Impl(std::shared_ptr<const Model> m, Ops& o) : model(std::move(m)), ops(o) {}

  const std::shared_ptr<const Model> model;
  Ops& ops;
  int64_t context = 0, batch = 0, n_past = 0;
  std::vector<std::unique_ptr<KvStore>> kv;  // one per layer
  std::unique_ptr<BackendBuffer> x, q, attn, ffn, rope_cos, rope_sin, logits;
  std::vector<float> host_cos, host_sin;  // (batch, head_dim / 2)
  // Rotations of text at positions [0, n_step_rope) of the context, where the backend records steps.
  std::unique_ptr<BackendBuffer> step_cos, step_sin;
  int64_t n_step_rope = 0;
  std::unique_ptr<DecodeSteps> steps;  // goes first: steps that are under way use the memory above

  // One pass over rows [first, first + n) of the input. logits: n_logits rows, the last ones of the pass.
  struct Pass {
    std::span<const TokenId> ids;
    std::span<const MropePosition> positions;
    std::span<const float> embeddings;
    int64_t n_logits = 0;
    float* logits = nullptr;
    int64_t rows_before = 0, rows_total = 0;  // for progress
  };

  const TextConfig& config() const { return model->text(); }
  Mat rows(const std::unique_ptr<BackendBuffer>& buffer, int64_t n, int64_t cols) const {
    return Mat::contiguous(buffer->data, n, cols);
  }

  DecoderScratch scratch(int64_t n) const {
    const TextConfig& c = config();
    const int64_t half = c.head_dim / 2, heads = c.num_attention_heads * c.head_dim;
    return {rows(x, n, c.hidden_size), rows(q, n, heads), rows(attn, n, heads), rows(ffn, n, c.intermediate_size),
            RopeTable{rows(rope_cos, n, half), rows(rope_sin, n, half)}};
  }

  Status check(const Input& input, std::span<float> out, bool all_logits) const;
  Status run_pass(const Pass& pass, const TapSink& tap, const ProgressSink& progress);
  Status compute(const Pass& pass, Probe& probe, const ProgressSink& progress, bool* finite);
  void head(const Pass& pass, Mat all, Probe& probe, bool* finite);
  Result<std::unique_ptr<StepProgram>> record_step(int64_t n_positions, const DrawOptions& draw);
  Status fill_step_rope(int64_t n_positions);
};

TextDecoder::TextDecoder() = default;
TextDecoder::~TextDecoder() = default;

uint64_t TextDecoder::plan_bytes(const Model& model, const Ops& ops, int64_t context, int64_t batch,
                                 KvElement element) {
  const TextConfig& c = model.text();
  const int64_t rows = std::clamp<int64_t>(batch, 1, std::max<int64_t>(1, context));
  const auto layers = static_cast<uint64_t>(c.num_hidden_layers);
  return DecoderSizes(c, rows).bytes() + ops.reserve_bytes(rows, widest_input(c)) +
         ops.kv_scratch_bytes(c.num_key_value_heads, c.head_dim, round_up(context, kKeyBlock)) +
         layers * ops.kv_bytes(c.num_key_value_heads, c.head_dim, round_up(context, kKeyBlock), element) +
         2 * sizeof(float) * static_cast<uint64_t>(step_rope_floats(c, ops, context));
}

Result<std::unique_ptr<TextDecoder>> TextDecoder::create(std::shared_ptr<const Model> model, Ops& ops, int64_t context,
                                                         int64_t batch, KvElement element) {
  if (context < 1 || context > int64_t{1} << 30 || batch < 1) {
    return make_error(ErrorCode::kInvalidArgument, "a context of %lld positions in batches of %lld rows",
                      static_cast<long long>(context), static_cast<long long>(batch));
  }
  const TextConfig& c = model->text();
  std::unique_ptr<TextDecoder> decoder(new TextDecoder());
  decoder->impl_ = std::make_unique<Impl>(model, ops);
  Impl& d = *decoder->impl_;
  d.context = context;
  d.batch = std::min(batch, context);
  const DecoderSizes sizes(c, d.batch);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    GLIMPSE_ASSIGN(std::unique_ptr<KvStore> kv,
                   ops.make_kv(c.num_key_value_heads, c.head_dim, round_up(context, kKeyBlock), element));
    d.kv.push_back(std::move(kv));
  }
  GLIMPSE_ASSIGN(d.x, ops.allocate(sizes.x, "residual stream"));
  GLIMPSE_ASSIGN(d.q, ops.allocate(sizes.q, "queries"));
  GLIMPSE_ASSIGN(d.attn, ops.allocate(sizes.q, "attention output"));
  GLIMPSE_ASSIGN(d.ffn, ops.allocate(sizes.ffn, "feed-forward activations"));
  GLIMPSE_ASSIGN(d.rope_cos, ops.allocate(sizes.rope, "rotation table"));
  GLIMPSE_ASSIGN(d.rope_sin, ops.allocate(sizes.rope, "rotation table"));
  GLIMPSE_ASSIGN(d.logits, ops.allocate(sizes.logits, "logits"));
  GLIMPSE_TRY(ops.reserve(d.batch, widest_input(c)));
  d.host_cos.resize(static_cast<size_t>(sizes.rope));
  d.host_sin.resize(static_cast<size_t>(sizes.rope));
  if (ops.records_steps()) {
    GLIMPSE_ASSIGN(d.step_cos, ops.allocate(step_rope_floats(c, ops, context), "rotation table of the context"));
    GLIMPSE_ASSIGN(d.step_sin, ops.allocate(step_rope_floats(c, ops, context), "rotation table of the context"));
  }
  d.steps = std::make_unique<DecodeSteps>(
      [&d](int64_t n_positions, const DrawOptions& draw) { return d.record_step(n_positions, draw); }, context);
  return decoder;
}

int64_t TextDecoder::context() const {
  return impl_->context;
}
int64_t TextDecoder::batch() const {
  return impl_->batch;
}
int64_t TextDecoder::n_past() const {
  return impl_->n_past;
}
void TextDecoder::truncate(int64_t n) {
  if (n < impl_->n_past) impl_->steps->forget();
  impl_->n_past = std::clamp<int64_t>(n, 0, impl_->n_past);
}

Status TextDecoder::Impl::check(const Input& input, std::span<float> out, bool all_logits) const {
  const TextConfig& c = config();
  const auto n = static_cast<int64_t>(input.ids.size());
  if (n == 0) return make_error(ErrorCode::kInvalidArgument, "an input of no rows");
  if (n > context - n_past) {
    return make_error(ErrorCode::kContextFull,
                      "%lld more positions do not fit: the context has %lld, %lld are used, %lld are left",
                      static_cast<long long>(n), static_cast<long long>(context), static_cast<long long>(n_past),
                      static_cast<long long>(context - n_past));
  }
  int64_t n_embeddings = 0;
  for (const TokenId id : input.ids) {
    if (id < -1 || id >= c.vocab_size) {
      return make_error(ErrorCode::kInvalidArgument, "token %d is outside the vocabulary of %lld", id,
                        static_cast<long long>(c.vocab_size));
    }
    if (id == -1) ++n_embeddings;
  }
  if (input.positions.size() != input.ids.size()) {
    return make_error(ErrorCode::kInvalidArgument, "%zu positions for %zu rows", input.positions.size(),
                      input.ids.size());
  }
  if (static_cast<int64_t>(input.embeddings.size()) != n_embeddings * c.hidden_size) {
    return make_error(ErrorCode::kInvalidArgument, "%zu embedding values for %lld rows of %lld",
                      input.embeddings.size(), static_cast<long long>(n_embeddings),
                      static_cast<long long>(c.hidden_size));
  }
  if (!std::all_of(input.embeddings.begin(), input.embeddings.end(), [](float v) { return std::isfinite(v); })) {
    return make_error(ErrorCode::kNumeric, "a NaN or an infinity among the embeddings given");
  }
  const int64_t want = out.empty() ? 0 : (all_logits ? n : 1) * c.vocab_size;
  if (static_cast<int64_t>(out.size()) != want) {
    return make_error(ErrorCode::kInvalidArgument, "room for %zu logits, want %lld", out.size(),
                      static_cast<long long>(want));
  }
  return {};
}

Status TextDecoder::forward(const Input& input, std::span<float> logits, bool all_logits, const TapSink& tap,
                            const ProgressSink& progress) {
  Impl& d = *impl_;
  GLIMPSE_TRY(d.check(input, logits, all_logits));
  d.steps->forget();
  const auto n = static_cast<int64_t>(input.ids.size());
  const int64_t n_before = d.n_past;
  auto embeddings = input.embeddings;
  // Passes of equal size: a last one of a few rows would read all weights for them.
  const int64_t n_passes = ceil_div(n, d.batch);
  for (int64_t i = 0; i < n_passes; ++i) {
    const int64_t first = n * i / n_passes, count = n * (i + 1) / n_passes - first;
    Impl::Pass pass;
    pass.ids = input.ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    pass.positions = input.positions.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    const auto n_rows = static_cast<size_t>(std::count(pass.ids.begin(), pass.ids.end(), -1));
    pass.embeddings = embeddings.first(n_rows * static_cast<size_t>(d.config().hidden_size));
    embeddings = embeddings.subspan(pass.embeddings.size());
    if (!logits.empty() && all_logits) {
      pass.n_logits = count;
      pass.logits = logits.data() + first * d.config().vocab_size;
    } else if (!logits.empty() && first + count == n) {
      pass.n_logits = 1;
      pass.logits = logits.data();
    }
    pass.rows_before = first;
    pass.rows_total = n;
    Status status = d.run_pass(pass, tap, progress);
    if (!status.ok()) {
      d.n_past = n_before;
      return status;
    }
    d.n_past += count;
  }
  return {};
}

Status TextDecoder::Impl::run_pass(const Pass& pass, const TapSink& tap, const ProgressSink& progress) {
  bool finite = true;
  Probe probe(ops, tap);
  GLIMPSE_TRY(compute(pass, probe, progress, &finite));
  if (finite) return {};
  // The same pass again, looking at every step, so that the message can name the first bad one.
  const TapSink no_tap;
  Probe search(ops, no_tap);
  search.search_non_finite();
  GLIMPSE_TRY(compute(pass, search, {}, &finite));
  return make_error(ErrorCode::kNumeric, "a NaN or an infinity in the decoder, first in %s (rows %lld to %lld)",
                    search.first_non_finite().empty() ? "an unnamed step" : search.first_non_finite().c_str(),
                    static_cast<long long>(n_past),
                    static_cast<long long>(n_past) + static_cast<long long>(pass.ids.size()) - 1);
}

Status TextDecoder::Impl::compute(const Pass& pass, Probe& probe, const ProgressSink& progress, bool* finite) {
  const TextConfig& c = config();
  const auto n = static_cast<int64_t>(pass.ids.size());
  const TextWeights& w = model->text_weights();
  const DecoderScratch s = scratch(n);
  fill_mrope_table(pass.positions, c.mrope_section, c.rope_theta, c.head_dim, host_cos.data(), host_sin.data());
  bool cancelled = false;
  GLIMPSE_TRY(ops.run([&] {
    ops.upload(host_cos.data(), n * (c.head_dim / 2), s.rope.cos.data);
    ops.upload(host_sin.data(), n * (c.head_dim / 2), s.rope.sin.data);
    const float* embedding = pass.embeddings.data();
    for (int64_t r = 0; r < n; ++r) {  // pictures' rows; embed() leaves them as they are
      if (pass.ids[static_cast<size_t>(r)] >= 0) continue;
      ops.upload(embedding, c.hidden_size, s.x.row(r));
      embedding += c.hidden_size;
    }
    ops.embed(*w.token_embd, pass.ids, s.x);
    probe.enter("");
    probe.see("embd", s.x);
    for (size_t layer = 0; layer < w.layers.size(); ++layer) {
      const double done = static_cast<double>(pass.rows_before) +
                          static_cast<double>(n) * static_cast<double>(layer) / static_cast<double>(w.layers.size());
      if (progress && !progress("decode", done / static_cast<double>(pass.rows_total))) {
        cancelled = true;
        return;
      }
      if (probe.active()) probe.enter("blk." + std::to_string(layer) + ".");
      const Segment rows_of_layer{.kv = kv[layer].get(), .n_rows = n, .n_past = n_past};
      decoder_layer(ops, w.layers[layer], std::span(&rows_of_layer, 1), s, probe);
    }
    *finite = ops.all_finite(s.x);
    head(pass, s.x, probe, finite);
  }));
  if (cancelled) return make_error(ErrorCode::kCancelled, "the decoder was cancelled");
  return {};
}

// logits = W_out RMSNorm(x) for the last n_logits rows of the pass.
void TextDecoder::Impl::head(const Pass& pass, Mat all, Probe& probe, bool* finite) {
  const TextConfig& c = config();
  const TextWeights& w = model->text_weights();
  for (int64_t first = 0; first < pass.n_logits; first += kLogitRows) {
    const int64_t count = std::min(kLogitRows, pass.n_logits - first);
    const Mat x_rows = all.slice(all.rows - pass.n_logits + first, count);
    const Mat out = rows(logits, count, c.vocab_size);
    ops.norm_linear(x_rows, w.output_norm, w.output, Activation::kNone, out);
    *finite = ops.all_finite(out) && *finite;
    ops.download(out.data, count * c.vocab_size, pass.logits + first * c.vocab_size);
    probe.see_rows(out);
  }
  probe.enter("");
  if (pass.n_logits > 0) probe.finish("logits", c.vocab_size);
}

Status TextDecoder::Impl::fill_step_rope(int64_t n_positions) {
  const TextConfig& c = config();
  const int64_t half = c.head_dim / 2;
  if (n_positions <= n_step_rope) return {};
  std::vector<MropePosition> positions;
  for (int64_t i = n_step_rope; i < n_positions; ++i) {
    const auto p = static_cast<int32_t>(i);
    positions.push_back({p, p, p});
  }
  const auto n = static_cast<int64_t>(positions.size());
  std::vector<float> cosines(static_cast<size_t>(n * half)), sines(cosines.size());
  fill_mrope_table(positions, c.mrope_section, c.rope_theta, c.head_dim, cosines.data(), sines.data());
  GLIMPSE_TRY(ops.run([&] {
    ops.upload(cosines.data(), n * half, step_cos->data + n_step_rope * half);
    ops.upload(sines.data(), n * half, step_sin->data + n_step_rope * half);
  }));
  n_step_rope = n_positions;
  return {};
}

// The pass of compute() and head() for one row of text whose place the backend knows.
Result<std::unique_ptr<StepProgram>> TextDecoder::Impl::record_step(int64_t n_positions, const DrawOptions& draw) {
  const TextConfig& c = config();
  const TextWeights& w = model->text_weights();
  if (step_cos == nullptr) return std::unique_ptr<StepProgram>();
  GLIMPSE_TRY(fill_step_rope(n_positions));
  DecoderScratch s = scratch(1);
  s.rope = {rows(step_cos, n_positions, c.head_dim / 2), rows(step_sin, n_positions, c.head_dim / 2)};
  const Mat out = rows(logits, 1, c.vocab_size);
  const TapSink no_tap;
  Probe probe(ops, no_tap);
  return ops.record_step([&](StepRecorder& step) {
    step.embed_token(*w.token_embd, s.x);
    for (size_t layer = 0; layer < w.layers.size(); ++layer) {
      const Segment row{.kv = kv[layer].get(), .n_rows = 1, .n_past = n_positions - 1};
      decoder_layer(ops, w.layers[layer], std::span(&row, 1), s, probe);
    }
    ops.norm_linear(s.x, w.output_norm, w.output, Activation::kNone, out);
    step.draw(out, draw);
  });
}

Result<std::optional<TokenId>> TextDecoder::step(TokenId id, const MropePosition& position, const DrawOptions& draw,
                                                 std::span<const float> uniform) {
  Impl& d = *impl_;
  GLIMPSE_TRY(d.check({std::span(&id, 1), std::span(&position, 1), {}}, {}, false));
  const bool text = id >= 0 && position.t >= 0 && position.t == position.h && position.t == position.w;
  if (!text || uniform.empty()) return std::optional<TokenId>();
  GLIMPSE_ASSIGN(const std::optional<TokenId> next, d.steps->next({id, d.n_past, position.t}, draw, uniform));
  if (next) ++d.n_past;
  return next;
}

Status TextDecoder::last_logits(TokenId id, const MropePosition& position, std::span<float> logits) {
  Impl& d = *impl_;
  if (d.n_past == 0) return make_error(ErrorCode::kInvalidArgument, "no slot is filled");
  --d.n_past;
  Status done = forward({std::span(&id, 1), std::span(&position, 1), {}}, logits, false, {}, {});
  if (!done.ok()) ++d.n_past;
  return done;
}

}  // namespace glimpse
