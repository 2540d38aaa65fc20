// The decoder: forward() of Qwen2VLTextModel and Qwen3Model in transformers, on Ops only.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/base/checked.h"
#include "engine/model/decode_steps.h"
#include "engine/model/probe.h"
#include "engine/model/text_decoder.h"
#include "engine/model/weights.h"
#include "engine/runtime/memory_list.h"

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
  Mat ffn;         // (T, ffn_width), silu(gate) * up
  RopeTable rope;  // (T, head_dim / 2)
  Routing routing;
};

// x += the feed-forward network of RMSNorm(x), or of the experts that it chooses for each row.
void decoder_ffn(PassOps& op, const DecoderLayerWeights& w, const DecoderScratch& s, Probe& probe) {
  if (w.experts) {
    op.norm_experts(s.x, w.ffn_norm, *w.experts, s.routing, s.ffn);  // ffn = silu(Wg h) * (Wu h), expert by expert
    probe.see("router", s.routing.scores);
    probe.see("routing", s.routing.weight);
    probe.see("ffn", s.ffn);
    op.experts_add(s.ffn, *w.experts, s.routing, s.x);  // x += sum of weight * (Wd ffn)
    return;
  }
  const Mat ffn = probe.read_by(w.ffn_down, s.ffn);
  op.norm_swiglu(s.x, w.ffn_norm, w.ffn_gate, w.ffn_up, ffn);  // h = RMSNorm(x); ffn = silu(Wg h) * (Wu h)
  probe.see("ffn", ffn);
  op.linear_add(ffn, w.ffn_down, s.x);  // x += Wd ffn
}

// One decoder layer (forward() of Qwen2VLDecoderLayer, Qwen3DecoderLayer and their like with experts). x is updated in
// place.
void decoder_layer(PassOps& op, const DecoderLayerWeights& w, Segments segments, const DecoderScratch& s,
                   Probe& probe) {
  op.norm_qkv(s.x, w.attn_norm, w.qkv, s.rope, segments, s.q);  // h = RMSNorm(x); q = rope(Wq h + bq); k, v stored
  probe.see("q", s.q);
  probe.see_kv(segments);
  const Mat attn = probe.read_by(w.attn_output, s.attn);
  op.attention(s.q, w.qkv.n_heads, segments, attn);
  probe.see("attn", attn);
  op.linear_add(attn, w.attn_output, s.x);  // x += Wo attn
  probe.see("attn_out", s.x);
  decoder_ffn(op, w, s, probe);
  probe.see("ffn_out", s.x);
}

// What a decoder allocates.
struct DecoderMemory {
  std::unique_ptr<BackendBuffer> x, q, attn, ffn, rope_cos, rope_sin, routing, deepstack, logits;
  std::vector<float> host_cos, host_sin;  // (batch, head_dim / 2)
  std::vector<float> host_rows;           // (batch, hidden_size), of DeepStack
  std::vector<TokenId> ids;               // (batch)
  // Rotations of text at positions of the context, where the backend records steps.
  std::unique_ptr<BackendBuffer> step_cos, step_sin;
};

// weights outlive the list.
MemoryList list_memory(const TextConfig& c, const TextWeights& weights, const Ops& ops, int64_t context, int64_t batch,
                       DecoderMemory& to) {
  const int64_t heads = c.num_attention_heads * c.head_dim, half = c.head_dim / 2;
  MemoryList list;
  list.buffer("residual stream", batch * c.hidden_size, to.x);
  list.buffer("queries", batch * heads, to.q);
  list.buffer("attention output", batch * heads, to.attn);
  list.buffer("feed-forward activations", batch * c.ffn_width(), to.ffn);
  list.buffer("rotation table, cosines", batch * half, to.rope_cos);
  list.buffer("rotation table, sines", batch * half, to.rope_sin);
  list.buffer("logits", std::min(batch, kLogitRows) * c.vocab_size, to.logits);
  list.host("rotations, cosines", batch * half, to.host_cos);
  list.host("rotations, sines", batch * half, to.host_sin);
  list.host("token ids", batch, to.ids);
  // Inputs, and keys and values on their way to the cache.
  list.product(batch, std::max({c.hidden_size, heads, 2 * c.num_key_value_heads * c.head_dim, c.intermediate_size,
                                c.moe_intermediate_size, c.shared_expert_intermediate_size}));
  list.attention(c.num_key_value_heads, c.head_dim, round_up(context, kKeyBlock));
  if (c.num_experts > 0) {
    list.buffer("routing to experts", batch * (c.num_experts + 2 * c.num_experts_per_tok + 1), to.routing);
    list.experts(batch, *weights.layers[0].experts);
  }
  if (c.num_deepstack_layers > 0) {
    list.buffer("DeepStack rows", batch * c.hidden_size, to.deepstack);
    list.host("DeepStack rows of the host", batch * c.hidden_size, to.host_rows);
  }
  if (ops.records_steps()) {
    list.buffer("rotation table of the context, cosines", context * half, to.step_cos);
    list.buffer("rotation table of the context, sines", context * half, to.step_sin);
  }
  return list;
}

// The rows of one input that are in a pass.
struct PassPart {
  KvCache* cache = nullptr;
  PassRows rows;
  int64_t first_row = 0;  // in the pass
  int64_t n_logits = 0;   // of its last rows: what is wanted of them
  float* logits = nullptr;
  DecoderOutput output = DecoderOutput::kLogits;

  int64_t n_rows() const { return static_cast<int64_t>(rows.ids.size()); }
};

// Cuts inputs into passes. A pass takes the next rows of the inputs in their order.
class PassCutter {
 public:
  PassCutter(std::span<const TextDecoder::Input> inputs, const TextConfig& config)
      : inputs_(inputs), config_(config), embedding_width_(static_cast<size_t>(config.embedding_width())) {}

  // The next n rows; there are so many.
  void next(int64_t n, std::vector<PassPart>& parts) {
    parts.clear();
    for (int64_t row = 0; row < n;) {
      const TextDecoder::Input& input = inputs_[input_];
      const auto n_rows = static_cast<int64_t>(input.rows.ids.size());
      const int64_t count = std::min(n - row, n_rows - taken_);
      PassPart part;
      part.cache = input.cache;
      part.first_row = row;
      part.rows.ids = input.rows.ids.subspan(static_cast<size_t>(taken_), static_cast<size_t>(count));
      part.rows.positions = input.rows.positions.subspan(static_cast<size_t>(taken_), static_cast<size_t>(count));
      const auto n_pictures =
          static_cast<size_t>(std::count(part.rows.ids.begin(), part.rows.ids.end(), PassRows::kPicture));
      part.rows.embeddings = input.rows.embeddings.subspan(embedding_, n_pictures * embedding_width_);
      embedding_ += part.rows.embeddings.size();
      const int64_t first_wanted = input.logits.empty() ? n_rows : input.all_logits ? 0 : n_rows - 1;
      part.n_logits = std::max<int64_t>(0, taken_ + count - std::max(first_wanted, taken_));
      part.output = input.output;
      part.logits =
          input.logits.data() + std::max<int64_t>(0, taken_ - first_wanted) * output_width(config_, input.output);
      parts.push_back(part);
      row += count;
      taken_ += count;
      if (taken_ == n_rows) ++input_, taken_ = 0, embedding_ = 0;
    }
  }

 private:
  const std::span<const TextDecoder::Input> inputs_;
  const TextConfig& config_;
  const size_t embedding_width_;
  size_t input_ = 0;
  int64_t taken_ = 0;     // rows of that input
  size_t embedding_ = 0;  // floats of its embeddings
};

}  // namespace

struct TextDecoder::Impl {
  Impl(std::shared_ptr<const Model> m, Ops& o) : model(std::move(m)), ops(o) {}

  const std::shared_ptr<const Model> model;
  Ops& ops;
  int64_t context = 0, batch = 0;
  DecoderMemory memory;
  std::vector<PassPart> parts;             // of the pass at hand
  std::vector<Segment> segments;           // one per part
  int64_t n_step_rope = 0;                 // positions that step_cos and step_sin hold
  std::vector<KvCache::Revision> stepped;  // of the caches that steps go on in
  std::unique_ptr<DecodeSteps> steps;      // goes first: steps that are under way use the memory above

  // How far the passes of a run are.
  struct Progress {
    const ProgressSink& sink;
    int64_t rows_before = 0, rows_total = 0;
  };

  const TextConfig& config() const { return model->text(); }
  Mat rows(const std::unique_ptr<BackendBuffer>& buffer, int64_t n, int64_t cols) const {
    return Mat::contiguous(buffer->data, n, cols);
  }

  DecoderScratch scratch(int64_t n) const {
    const TextConfig& c = config();
    const int64_t half = c.head_dim / 2, heads = c.num_attention_heads * c.head_dim;
    return {rows(memory.x, n, c.hidden_size),
            rows(memory.q, n, heads),
            rows(memory.attn, n, heads),
            rows(memory.ffn, n, c.ffn_width()),
            RopeTable{rows(memory.rope_cos, n, half), rows(memory.rope_sin, n, half)},
            routing_rows(n)};
  }
  Routing routing_rows(int64_t n) const {
    const TextConfig& c = config();
    if (c.num_experts == 0) return {};
    const int64_t used = c.num_experts_per_tok, slots = used + (c.shared_expert_intermediate_size > 0 ? 1 : 0);
    const Mat all = rows(memory.routing, n, c.num_experts + used + slots);
    return {all.columns(0, c.num_experts), all.columns(c.num_experts, used), all.columns(c.num_experts + used, slots)};
  }

  Status check(const Input& input) const;
  Status run(std::span<const Input> inputs, const TapSink& tap, const ProgressSink& progress);
  Status run_pass(int64_t n, const TapSink& tap, const Progress& progress);
  Status compute(int64_t n, Probe& probe, const Progress& progress, bool* finite);
  void embed(const DecoderScratch& s);
  template <typename Use>
  void upload_pictures(int64_t piece, Mat to, Use&& use);
  void add_deepstack(size_t layer, Mat all, Probe& probe);
  Segments segments_of_layer(size_t layer);
  void head(Mat all, Probe& probe, bool* finite);
  Status norm_hidden();
  Result<std::unique_ptr<StepProgram>> record_step(std::span<const KvCache* const> caches, int64_t n_positions,
                                                   std::span<const DrawOptions> draws);
  Status fill_step_rope(int64_t n_positions);
  Status check_step(const StepInput& input) const;
  DecodeSteps* steps_of(std::span<const StepInput> inputs);
};

int64_t output_width(const TextConfig& config, DecoderOutput output) {
  switch (output) {
    case DecoderOutput::kHidden:
      return config.hidden_size;
    case DecoderOutput::kLabels:
      return config.num_labels;
    case DecoderOutput::kLogits:
      break;
  }
  return config.vocab_size;
}

TextDecoder::TextDecoder() = default;
TextDecoder::~TextDecoder() = default;

uint64_t TextDecoder::plan_bytes(const Model& model, const Ops& ops, int64_t context, int64_t batch) {
  const TextConfig& c = model.text();
  const int64_t rows = std::clamp<int64_t>(batch, 1, std::max<int64_t>(1, context));
  DecoderMemory none;
  return list_memory(c, model.text_weights(), ops, context, rows, none).bytes(ops);
}

Result<std::unique_ptr<TextDecoder>> TextDecoder::create(std::shared_ptr<const Model> model, Ops& ops, int64_t context,
                                                         int64_t batch) {
  if (context < 1 || context > int64_t{1} << 30 || batch < 1) {
    return make_error(ErrorCode::kInvalidArgument, "a context of %d positions in batches of %d rows", context, batch);
  }
  std::unique_ptr<TextDecoder> decoder(new TextDecoder());
  decoder->impl_ = std::make_unique<Impl>(model, ops);
  Impl& d = *decoder->impl_;
  d.context = context;
  d.batch = std::min(batch, context);
  GLIMPSE_TRY(list_memory(model->text(), model->text_weights(), ops, context, d.batch, d.memory).allocate(ops));
  return decoder;
}

Status TextDecoder::Impl::check(const Input& input) const {
  const TextConfig& c = config();
  const PassRows& rows = input.rows;
  const auto n = static_cast<int64_t>(rows.ids.size());
  if (n == 0) return make_error(ErrorCode::kInvalidArgument, "an input of no rows");
  if (n > input.cache->n_left()) {
    return make_error(ErrorCode::kContextFull,
                      "%d more positions do not fit: the context has %d, %d are used, %d are left", n,
                      input.cache->context(), input.cache->n_past(), input.cache->n_left());
  }
  int64_t n_embeddings = 0;
  for (const TokenId id : rows.ids) {
    if (id != PassRows::kPicture && (id < 0 || id >= c.vocab_size)) {
      return make_error(ErrorCode::kInvalidArgument, "token %d is outside the vocabulary of %d", id, c.vocab_size);
    }
    if (id == PassRows::kPicture) ++n_embeddings;
  }
  if (rows.positions.size() != rows.ids.size()) {
    return make_error(ErrorCode::kInvalidArgument, "%d positions for %d rows", rows.positions.size(), rows.ids.size());
  }
  if (static_cast<int64_t>(rows.embeddings.size()) != n_embeddings * c.embedding_width()) {
    return make_error(ErrorCode::kInvalidArgument, "%d embedding values for %d rows of %d", rows.embeddings.size(),
                      n_embeddings, c.embedding_width());
  }
  if (!std::all_of(rows.embeddings.begin(), rows.embeddings.end(), [](float v) { return std::isfinite(v); })) {
    return make_error(ErrorCode::kNumeric, "a NaN or an infinity among the embeddings given");
  }
  const int64_t want = input.logits.empty() ? 0 : (input.all_logits ? n : 1) * output_width(c, input.output);
  if (static_cast<int64_t>(input.logits.size()) != want) {
    return make_error(ErrorCode::kInvalidArgument, "room for %d logits, want %d", input.logits.size(), want);
  }
  return {};
}

namespace {

// Cuts the caches of a pass back to where they were, unless kept: also when an exception ends it. Pages that were taken
// for the pass go back as well.
struct PassUndo {
  std::span<const TextDecoder::Input> inputs;
  std::vector<int64_t> n_before;
  bool kept = false;
  ~PassUndo() {
    for (size_t i = 0; !kept && i < n_before.size(); ++i) inputs[i].cache->abandon_pass(n_before[i]);
  }
};

}  // namespace

Status TextDecoder::Impl::run(std::span<const Input> inputs, const TapSink& tap, const ProgressSink& progress) {
  int64_t n = 0;
  PassUndo undo{inputs, {}};
  for (const Input& input : inputs) {
    GLIMPSE_TRY(check(input));
    const auto same = [&](const Input& other) { return other.cache == input.cache; };
    if (std::count_if(inputs.begin(), inputs.end(), same) > 1) {
      return make_error(ErrorCode::kInvalidArgument, "a cache stands in a pass twice");
    }
    n += static_cast<int64_t>(input.rows.ids.size());
  }
  for (const Input& input : inputs) {
    undo.n_before.push_back(input.cache->n_past());
    GLIMPSE_TRY(input.cache->begin_pass(static_cast<int64_t>(input.rows.ids.size())));
  }
  PassCutter cutter(inputs, config());
  // Passes of equal size: a last one of a few rows would read all weights for them.
  const int64_t n_passes = ceil_div(n, batch);
  for (int64_t i = 0; i < n_passes; ++i) {
    const int64_t first = n * i / n_passes, count = n * (i + 1) / n_passes - first;
    cutter.next(count, parts);
    GLIMPSE_TRY(run_pass(count, tap, {progress, first, n}));
    for (const PassPart& part : parts) part.cache->advance(part.n_rows());
  }
  undo.kept = true;
  return {};
}

Status TextDecoder::run(std::span<const Input> inputs, const TapSink& tap, const ProgressSink& progress) {
  return impl_->run(inputs, tap, progress);
}

Status TextDecoder::forward(KvCache& cache, const PassRows& rows, std::span<float> logits, bool all_logits,
                            const TapSink& tap, const ProgressSink& progress) {
  const Input input{&cache, rows, logits, all_logits};
  return impl_->run(std::span(&input, 1), tap, progress);
}

Status TextDecoder::Impl::run_pass(int64_t n, const TapSink& tap, const Progress& progress) {
  bool finite = true;
  Probe probe(ops, tap);
  GLIMPSE_TRY(compute(n, probe, progress, &finite));
  if (finite) return {};
  // The same pass again, looking at every step, so that the message can name the first bad one.
  const TapSink no_tap;
  const ProgressSink no_progress;
  Probe search(ops, no_tap);
  search.search_non_finite();
  GLIMPSE_TRY(compute(n, search, {no_progress}, &finite));
  const std::string where = search.first_non_finite().empty() ? "an unnamed step" : search.first_non_finite();
  if (parts.size() > 1) {
    return make_error(ErrorCode::kNumeric, "a NaN or an infinity in the decoder, first in %s (%d texts in one pass)",
                      where, parts.size());
  }
  const int64_t n_past = parts[0].cache->n_past();
  return make_error(ErrorCode::kNumeric, "a NaN or an infinity in the decoder, first in %s (rows %d to %d)", where,
                    n_past, n_past + n - 1);
}

// Piece `piece` of hidden_size floats of the pictures' embeddings in the pass, to the same rows of `to`; use(first_row,
// n) for each run of rows when it is there.
template <typename Use>
void TextDecoder::Impl::upload_pictures(int64_t piece, Mat to, Use&& use) {
  const auto hidden = config().hidden_size, width = config().embedding_width();
  for (const PassPart& part : parts) {
    const auto begin = part.rows.ids.begin(), end = part.rows.ids.end();
    const float* embedding = part.rows.embeddings.data();
    for (auto first = std::find(begin, end, PassRows::kPicture); first != end;) {
      const auto behind = std::find_if(first, end, [](TokenId id) { return id != PassRows::kPicture; });
      const int64_t n = behind - first, row = part.first_row + (first - begin);
      const float* from = embedding;
      if (width != hidden) {
        for (int64_t i = 0; i < n; ++i) {
          std::copy_n(embedding + i * width + piece * hidden, hidden, memory.host_rows.data() + i * hidden);
        }
        from = memory.host_rows.data();
      }
      ops.upload(from, n * hidden, to.row(row));
      use(row, n);
      embedding += n * width;
      first = std::find(behind, end, PassRows::kPicture);
    }
  }
}

// The input of the first layer and the rotations of all.
void TextDecoder::Impl::embed(const DecoderScratch& s) {
  const int64_t half = config().head_dim / 2;
  ops.upload(memory.host_cos.data(), s.x.rows * half, s.rope.cos.data);
  ops.upload(memory.host_sin.data(), s.x.rows * half, s.rope.sin.data);
  upload_pictures(0, s.x, [](int64_t, int64_t) {});  // embed() leaves them as they are
  ops.embed(*model->text_weights().token_embd, std::span(memory.ids).first(static_cast<size_t>(s.x.rows)), s.x);
}

// Rows of pictures += what their embeddings have for this layer (_deepstack_process() of Qwen3VLTextModel).
void TextDecoder::Impl::add_deepstack(size_t layer, Mat all, Probe& probe) {
  const Mat rows_of_pictures = rows(memory.deepstack, all.rows, all.cols);
  upload_pictures(static_cast<int64_t>(layer) + 1, rows_of_pictures,
                  [&](int64_t first, int64_t n) { ops.add(rows_of_pictures.slice(first, n), all.slice(first, n)); });
  probe.see("deepstack", all);
}

Segments TextDecoder::Impl::segments_of_layer(size_t layer) {
  segments.clear();
  for (const PassPart& part : parts) {
    segments.push_back({.kv = part.cache->layer(layer),
                        .first_row = part.first_row,
                        .n_rows = part.n_rows(),
                        .n_past = part.cache->n_past()});
  }
  return segments;
}

Status TextDecoder::Impl::compute(int64_t n, Probe& probe, const Progress& progress, bool* finite) {
  const TextConfig& c = config();
  const TextWeights& w = model->text_weights();
  const DecoderScratch s = scratch(n);
  for (const PassPart& part : parts) {
    const int64_t at = part.first_row * (c.head_dim / 2);
    fill_mrope_table(part.rows.positions, c.rotation, memory.host_cos.data() + at, memory.host_sin.data() + at);
    std::copy(part.rows.ids.begin(), part.rows.ids.end(), memory.ids.begin() + part.first_row);
  }
  bool cancelled = false;
  GLIMPSE_TRY(ops.run([&] {
    embed(s);
    probe.enter("");
    probe.see("embd", s.x);
    for (size_t layer = 0; layer < w.layers.size(); ++layer) {
      const double done = static_cast<double>(progress.rows_before) +
                          static_cast<double>(n) * static_cast<double>(layer) / static_cast<double>(w.layers.size());
      if (progress.sink && !progress.sink("decode", done / static_cast<double>(progress.rows_total))) {
        cancelled = true;
        return;
      }
      if (probe.active()) probe.enter("blk." + std::to_string(layer) + ".");
      decoder_layer(ops, w.layers[layer], segments_of_layer(layer), s, probe);
      if (static_cast<int64_t>(layer) < c.num_deepstack_layers) add_deepstack(layer, s.x, probe);
    }
    *finite = ops.all_finite(s.x);
    head(s.x, probe, finite);
  }));
  if (cancelled) return make_error(ErrorCode::kCancelled, "the decoder was cancelled");
  return norm_hidden();
}

// logits = W_out RMSNorm(x) for the rows asked for; of neighbouring ones, some at once.
void TextDecoder::Impl::head(Mat all, Probe& probe, bool* finite) {
  const TextConfig& c = config();
  const TextWeights& w = model->text_weights();
  bool any = false;
  for (size_t begin = 0; begin < parts.size();) {
    // Parts [begin, end) whose wanted rows lie side by side: of all but the first that is all rows.
    size_t end = begin + 1;
    int64_t n = parts[begin].n_logits;
    const DecoderOutput output = parts[begin].output;
    while (end < parts.size() && n > 0 && parts[end].n_logits == parts[end].n_rows() && parts[end].output == output) {
      n += parts[end++].n_logits;
    }
    const int64_t first_row = parts[begin].first_row + parts[begin].n_rows() - parts[begin].n_logits;
    const int64_t width = output_width(c, output);
    size_t part = begin;
    int64_t row_of_part = 0;
    for (int64_t first = 0; first < n; first += kLogitRows) {
      const int64_t count = std::min(kLogitRows, n - first);
      Mat out = all.slice(first_row + first, count);  // normed by norm_hidden()
      if (output != DecoderOutput::kHidden) {
        out = rows(memory.logits, count, width);
        const Linear& head = output == DecoderOutput::kLabels ? w.classifier : w.output;
        ops.norm_linear(all.slice(first_row + first, count), w.output_norm, head, Activation::kNone, out);
        *finite = ops.all_finite(out) && *finite;
      }
      if (output == DecoderOutput::kLogits) probe.see_rows(out);
      for (int64_t row = 0; row < count;) {
        const int64_t here = std::min(count - row, parts[part].n_logits - row_of_part);
        ops.download(out.row(row), here * width, parts[part].logits + row_of_part * width);
        row += here;
        row_of_part += here;
        if (row_of_part == parts[part].n_logits) ++part, row_of_part = 0;
      }
    }
    any = any || (n > 0 && output == DecoderOutput::kLogits);
    begin = end;
  }
  probe.enter("");
  if (any) probe.finish("logits", c.vocab_size);
}

// RMSNorm of the hidden states that the host wants (Qwen2Model.norm): few rows, on the host.
Status TextDecoder::Impl::norm_hidden() {
  const auto wanted = [](const PassPart& part) { return part.output == DecoderOutput::kHidden && part.n_logits > 0; };
  if (std::none_of(parts.begin(), parts.end(), wanted)) return {};
  const Norm& norm = model->text_weights().output_norm;
  const auto width = static_cast<size_t>(config().hidden_size);
  std::vector<float> weight(width);
  GLIMPSE_TRY(ops.run([&] { ops.download(norm.weight->data, config().hidden_size, weight.data()); }));
  for (const PassPart& part : parts) {
    if (!wanted(part)) continue;
    for (int64_t row = 0; row < part.n_logits; ++row) {
      float* const x = part.logits + row * config().hidden_size;
      double squares = 0;
      for (size_t i = 0; i < width; ++i) squares += static_cast<double>(x[i]) * x[i];
      const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + norm.eps);
      for (size_t i = 0; i < width; ++i) x[i] = static_cast<float>(x[i] * scale * weight[i]);
    }
  }
  return {};
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
  fill_mrope_table(positions, c.rotation, cosines.data(), sines.data());
  GLIMPSE_TRY(ops.run([&] {
    ops.upload(cosines.data(), n * half, memory.step_cos->data + n_step_rope * half);
    ops.upload(sines.data(), n * half, memory.step_sin->data + n_step_rope * half);
  }));
  n_step_rope = n_positions;
  return {};
}

// The pass of compute() and head() for rows of text, one of each cache, whose places the backend knows.
Result<std::unique_ptr<StepProgram>> TextDecoder::Impl::record_step(std::span<const KvCache* const> caches,
                                                                    int64_t n_positions,
                                                                    std::span<const DrawOptions> draws) {
  const TextConfig& c = config();
  const TextWeights& w = model->text_weights();
  const auto n = static_cast<int64_t>(caches.size());
  if (memory.step_cos == nullptr || n > std::min(batch, kLogitRows)) return std::unique_ptr<StepProgram>();
  GLIMPSE_TRY(fill_step_rope(n_positions));
  DecoderScratch s = scratch(n);
  s.rope = {rows(memory.step_cos, n_positions, c.head_dim / 2), rows(memory.step_sin, n_positions, c.head_dim / 2)};
  const Mat out = rows(memory.logits, n, c.vocab_size);
  const TapSink no_tap;
  Probe probe(ops, no_tap);
  return ops.record_step(n, [&](StepOps& step) {
    step.embed_tokens(*w.token_embd, s.x);
    std::vector<Segment> places(caches.size());
    for (size_t layer = 0; layer < w.layers.size(); ++layer) {
      for (int64_t i = 0; i < n; ++i) {
        places[static_cast<size_t>(i)] = {
            .kv = caches[static_cast<size_t>(i)]->layer(layer), .first_row = i, .n_rows = 1, .n_past = n_positions - 1};
      }
      decoder_layer(step, w.layers[layer], places, s, probe);
    }
    step.norm_linear(s.x, w.output_norm, w.output, Activation::kNone, out);
    for (int64_t first = 0; first < n;) {  // rows that are drawn alike, together
      int64_t end = first + 1;
      while (end < n && draws[static_cast<size_t>(end)] == draws[static_cast<size_t>(first)]) ++end;
      step.draw(first, out.slice(first, end - first), draws[static_cast<size_t>(first)]);
      first = end;
    }
  });
}

// The recorded steps of these caches: those of others are dropped, and what was begun is worthless when something else
// has written to one. Several texts must come together twice before a step of theirs is worth recording: nullptr.
DecodeSteps* TextDecoder::Impl::steps_of(std::span<const StepInput> inputs) {
  std::vector<KvCache::Revision> now;
  std::vector<const KvCache*> caches;
  int64_t most = context;
  for (const StepInput& input : inputs) {
    now.push_back(input.cache->revision());
    caches.push_back(input.cache);
    most = std::min(most, input.cache->context());
  }
  const bool same_caches =
      std::equal(now.begin(), now.end(), stepped.begin(), stepped.end(),
                 [](const KvCache::Revision& a, const KvCache::Revision& b) { return a.of_same_cache(b); });
  if (!same_caches) steps = nullptr;  // goes before its successor is recorded
  if (steps != nullptr && !(now == stepped)) steps->forget();
  stepped = std::move(now);
  if (!same_caches && inputs.size() > 1) return nullptr;
  if (steps == nullptr) {
    const auto record = [this, caches = std::move(caches)](int64_t n_positions, std::span<const DrawOptions> draws) {
      return record_step(caches, n_positions, draws);
    };
    steps = std::make_unique<DecodeSteps>(record, most);
  }
  return steps.get();
}

Status TextDecoder::Impl::check_step(const StepInput& input) const {
  return check({input.cache, {std::span(&input.id, 1), std::span(&input.position, 1), {}}, {}});
}

Result<bool> TextDecoder::step(std::span<const StepInput> inputs, std::span<TokenId> tokens) {
  Impl& d = *impl_;
  size_t n_steps = StepProgram::kMostAhead;
  for (const StepInput& input : inputs) {
    GLIMPSE_TRY(d.check_step(input));
    const MropePosition& p = input.position;
    if (input.id < 0 || p.t < 0 || p.t != p.h || p.t != p.w) return false;  // no text
    n_steps = std::min(n_steps, input.uniform.size());
  }
  if (n_steps == 0 || !d.ops.records_steps()) return false;
  // No more ahead than there are pages for.
  const auto reserve = [&](size_t n) -> Status {
    for (const StepInput& input : inputs) GLIMPSE_TRY(input.cache->reserve(static_cast<int64_t>(n)));
    return {};
  };
  while (n_steps > 1 && !reserve(n_steps).ok()) --n_steps;
  GLIMPSE_TRY(reserve(n_steps));
  DecodeSteps* const steps = d.steps_of(inputs);
  if (steps == nullptr) return false;
  std::vector<StepRow> rows;
  for (const StepInput& input : inputs) {
    rows.push_back({{input.id, input.cache->n_past(), input.position.t}, input.draw, input.uniform.first(n_steps)});
  }
  GLIMPSE_ASSIGN(const bool done, steps->next(rows, tokens));
  for (size_t i = 0; done && i < inputs.size(); ++i) {
    inputs[i].cache->advance(1);
  }
  return done;
}

Status TextDecoder::last_logits(KvCache& cache, TokenId id, const MropePosition& position, std::span<float> logits) {
  const int64_t n = cache.n_past();
  if (n == 0) return make_error(ErrorCode::kInvalidArgument, "no slot is filled");
  const Input input{&cache, {std::span(&id, 1), std::span(&position, 1), {}}, logits};
  struct Refill {  // the slot's keys and values stay, however the pass ends
    KvCache& cache;
    int64_t n;
    ~Refill() { cache.advance(n - cache.n_past()); }
  };
  const Refill refill{cache, n};
  cache.reopen_last();
  return impl_->run(std::span(&input, 1), {}, {});
}

}  // namespace glimpse
