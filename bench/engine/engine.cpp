#include "bench/engine/engine.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/generate/answer_writer.h"
#include "engine/generate/conversation.h"
#include "engine/generate/picture_encoder.h"
#include "engine/generate/random.h"
#include "engine/generate/sampler.h"
#include "engine/model/weights.h"
#include "loaders/image/image.h"
#include "tokenizer/chat.h"

namespace glimpse::bench {
namespace {

std::vector<Message> question(const Turn& turn, std::shared_ptr<const ImageEmbedding> picture) {
  Message user{"user", {}};
  if (picture) user.parts.push_back({"", std::move(picture)});
  user.parts.push_back({turn.text, nullptr});
  return {std::move(user)};
}

// The encoder's pass is one call; where its parts begin is seen in the operations.
struct EncoderMarks {
  const PackedWeight* merger = nullptr;
  Clock::time_point blocks, merging;
  bool in_blocks = false, in_merger = false;

  // The two operations that mark a border are waited for.
  bool is_border(const OpRecord& record) const {
    return (!in_blocks && record.kind == OpKind::kNormQkv) ||
           (!in_merger && record.n_weights > 0 && record.weights[0] == merger);
  }
  void see(const OpRecord& record) {
    if (!in_blocks && record.kind == OpKind::kNormQkv) {
      in_blocks = true;
      blocks = record.start;
    }
    if (!in_merger && record.n_weights > 0 && record.weights[0] == merger) {
      in_merger = true;
      merging = record.start;
    }
  }
};

}  // namespace

Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(std::move(model), options));
  GLIMPSE_ASSIGN(engine->ops_, engine->model_->make_ops(options.n_threads));
  engine->profiled_ = std::make_unique<ProfiledOps>(*engine->ops_, options.mode);
  engine->logits_.resize(static_cast<size_t>(engine->model_->text().vocab_size));
  return engine;
}

void Engine::record_to(std::vector<OpRecord>* records) {
  records_ = records;
  profiled_->set_sink(records == nullptr ? ProfiledOps::Sink()
                                         : [records](const OpRecord& record) { records->push_back(record); });
}

Ops& Engine::text_ops() {
  if (options_.profile_text || options_.mode == ProfiledOps::Mode::kCount) return *profiled_;
  return *ops_;
}

// -- text
// --------------------------------------------------------------------------------------------------------------

Status Engine::make_decoder(int64_t context, int64_t n_parallel) {
  if (!caches_.empty() && caches_[0]->context() == context && static_cast<int64_t>(caches_.size()) == n_parallel) {
    truncate(0);
    return {};
  }
  decoder_.reset();  // before the next one is allocated
  caches_.clear();
  if (context == 0) return {};
  for (int64_t i = 0; i < n_parallel; ++i) {
    GLIMPSE_ASSIGN(std::unique_ptr<KvCache> cache, KvCache::create(*model_, text_ops(), context, options_.kv_element));
    caches_.push_back(std::move(cache));
  }
  GLIMPSE_ASSIGN(decoder_, TextDecoder::create(model_, text_ops(), context, std::max(options_.batch, n_parallel)));
  logits_.resize(static_cast<size_t>(n_parallel * model_->text().vocab_size));
  return {};
}

void Engine::truncate(int64_t n) {
  for (const auto& cache : caches_) cache->truncate(n);
}

Status Engine::forward(std::span<const TokenId> ids, bool with_logits) {
  PassInput input(static_cast<int32_t>(caches_[0]->n_past()));
  input.append_text(ids);
  const auto vocab_size = static_cast<size_t>(model_->text().vocab_size);
  std::vector<TextDecoder::Input> inputs;
  for (size_t i = 0; i < caches_.size(); ++i) {
    const auto logits = std::span(logits_).subspan(i * vocab_size, vocab_size);
    inputs.push_back({caches_[i].get(), input.rows(), with_logits ? logits : std::span<float>()});
  }
  return decoder_->run(inputs, {}, options_.progress);
}

Status Engine::fill(std::span<const TokenId> ids) {
  if (ids.empty()) return {};
  return forward(ids, false);
}

Status Engine::run_prompt(std::span<const TokenId> ids, Timeline& timeline) {
  return timeline.timed(Stage::kPrefill, [&] { return forward(ids, true); });
}

Status Engine::run_tokens(std::span<const TokenId> ids, Timeline& timeline) {
  return timeline.timed(Stage::kGenerate, [&]() -> Status {
    TokenId id = ids.empty() ? 0 : ids[0];
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto past = static_cast<int32_t>(caches_[0]->n_past());
      GLIMPSE_ASSIGN(const std::optional<TokenId> drawn,
                     step(id, {past, past, past}, static_cast<int64_t>(ids.size() - i - 1)));
      if (!drawn) GLIMPSE_TRY(forward(std::span(&id, 1), true));
      if (i + 1 < ids.size()) id = drawn.value_or(ids[i + 1]);
    }
    return {};
  });
}

// As a session decodes where the backend draws. n_left: steps that will be asked for after this one. nullopt: passes
// are the way.
Result<std::optional<TokenId>> Engine::step(TokenId id, const MropePosition& position, int64_t n_left) {
  if (records_ != nullptr || caches_.size() > 1) return std::optional<TokenId>();
  if (options_.progress && !options_.progress("decode", 0)) return make_error(ErrorCode::kCancelled, "cancelled");
  constexpr int64_t kStepsAhead = 2;  // a session's
  const std::array<float, 1 + kStepsAhead> luck{};
  const auto n = static_cast<size_t>(1 + std::min(kStepsAhead, n_left));
  const TextDecoder::StepInput input{caches_[0].get(), id, position, {}, std::span(luck).first(n)};
  TokenId token = 0;
  GLIMPSE_ASSIGN(const bool drawn, decoder_->step(std::span(&input, 1), std::span(&token, 1)));
  return drawn ? std::optional(token) : std::nullopt;
}

// -- pictures
// ----------------------------------------------------------------------------------------------------------

Result<ImageCost> Engine::image_cost(int64_t width, int64_t height) const {
  if (!model_->has_vision()) {
    return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see pictures");
  }
  return effective_image_size(width, height, model_->vision(), options_.image_limits);
}

Status Engine::make_encoder(int64_t n_patches) {
  if (encoder_ && encoder_patches_ == n_patches) return {};
  encoder_.reset();
  if (n_patches == 0) return {};
  GLIMPSE_ASSIGN(encoder_, VisionEncoder::create(model_, *profiled_, n_patches));
  encoder_patches_ = n_patches;
  return {};
}

Result<ImageEmbedding> Engine::encode(std::span<const std::byte> picture, Timeline& timeline) {
  GLIMPSE_ASSIGN(const Image image, timeline.timed(Stage::kDecode, [&] { return decode_image(picture, {}); }));
  GLIMPSE_ASSIGN(const ImageCost cost, image_cost(image.width, image.height));
  const Clock::time_point prepare = Clock::now();
  GLIMPSE_ASSIGN(const PreparedPicture prepared,
                 prepare_picture(image, cost, model_->vision().patch, &team_, encoder_->patch_form()));
  const Clock::time_point end_of_patches = Clock::now();
  const auto patches =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(prepared.patches_ms));
  timeline.spans.push_back({Stage::kResize, prepare, end_of_patches - patches});
  timeline.spans.push_back({Stage::kPatches, end_of_patches - patches, end_of_patches});

  EncoderMarks marks;
  marks.merger = model_->vision_weights().merger.fc1.weight.get();
  std::vector<OpRecord>* const records = records_;
  profiled_->set_sink(
      [&marks, records](const OpRecord& record) {
        marks.see(record);
        if (records != nullptr) records->push_back(record);
      },
      [&marks, records](const OpRecord& record) { return records != nullptr || marks.is_border(record); });
  const Clock::time_point start = Clock::now();
  Result<ImageEmbedding> embedding = encoder_->encode(prepared.patches, {}, options_.progress);
  const Clock::time_point end = Clock::now();
  record_to(records);
  if (!embedding.ok()) return std::move(embedding).error();
  if (!marks.in_blocks || !marks.in_merger) {
    return make_error(ErrorCode::kInternal, "the vision encoder ran without blocks or without merger");
  }
  timeline.spans.push_back({Stage::kPatchEmbed, start, marks.blocks});
  timeline.spans.push_back({Stage::kBlocks, marks.blocks, marks.merging});
  timeline.spans.push_back({Stage::kMerger, marks.merging, end});
  embedding->original = {image.width, image.height};
  return embedding;
}

// -- turns
// -------------------------------------------------------------------------------------------------------------

Result<int64_t> Engine::prompt_length(const Turn& turn, const ImageCost* cost) const {
  std::shared_ptr<ImageEmbedding> picture;
  if (cost != nullptr) {
    picture = std::make_shared<ImageEmbedding>();
    picture->grid = cost->grid;
    picture->merge_size = model_->vision().patch.merge_size;
    picture->n_tokens = cost->n_tokens;
    picture->width = model_->vision().embedding_width();
    picture->fingerprint = model_->vision_fingerprint();
    picture->values.resize(static_cast<size_t>(picture->n_tokens * picture->width));
  }
  const Conversation conversation(model_->tokenizer(), model_->chat_format());
  GLIMPSE_ASSIGN(const PromptInput input,
                 conversation.prompt(question(turn, std::move(picture)), model_->text().embedding_width(),
                                     model_->vision_fingerprint()));
  return input.pass.n_rows();
}

Result<std::vector<TokenId>> Engine::run_turn(const Turn& turn, Timeline& timeline) {
  truncate(0);
  std::shared_ptr<const ImageEmbedding> picture;
  if (!turn.picture.empty()) {
    GLIMPSE_ASSIGN(ImageEmbedding embedding, encode(turn.picture, timeline));
    picture = std::make_shared<const ImageEmbedding>(std::move(embedding));
  }
  Conversation conversation(model_->tokenizer(), model_->chat_format());
  const std::vector<Message> messages = question(turn, std::move(picture));
  GLIMPSE_ASSIGN(const PromptInput input, timeline.timed(Stage::kTokenize, [&] {
    return conversation.prompt(messages, model_->text().embedding_width(), model_->vision_fingerprint());
  }));
  const auto prefill = [&] {
    return decoder_->forward(*caches_[0], input.pass.rows(), logits_, false, {}, options_.progress);
  };
  GLIMPSE_TRY(timeline.timed(Stage::kPrefill, prefill));
  conversation.commit(input);

  GLIMPSE_ASSIGN(Sampler sampler, Sampler::create({}, model_->text().vocab_size));
  GLIMPSE_ASSIGN(AnswerWriter writer, AnswerWriter::create(model_->tokenizer(), {}, false));
  std::vector<TokenId> tokens;
  const auto accept = [&](TokenId id) {
    sampler.accept(id);
    conversation.append(id);
    writer.push(id);
    tokens.push_back(id);
  };
  const auto draw = [&]() -> Status {
    GLIMPSE_ASSIGN(const SampledToken token, sampler.sample(logits_, 0));
    accept(token.id);
    return {};
  };
  const auto generate = [&]() -> Status {
    while (static_cast<int64_t>(tokens.size()) < turn.n_gen) {
      const std::vector<MropePosition> positions = conversation.pending_positions(0);
      const int64_t n_left = turn.n_gen - static_cast<int64_t>(tokens.size()) - 1;
      GLIMPSE_ASSIGN(const std::optional<TokenId> drawn, step(conversation.pending()[0], positions[0], n_left));
      if (drawn) {
        conversation.commit_pending();
        accept(*drawn);
        continue;
      }
      const PassRows row{conversation.pending(), positions, {}};
      GLIMPSE_TRY(decoder_->forward(*caches_[0], row, logits_, false, {}, options_.progress));
      conversation.commit_pending();
      GLIMPSE_TRY(draw());
    }
    return {};
  };
  GLIMPSE_TRY(timeline.timed(Stage::kSample, draw));
  if (turn.n_gen > 1) GLIMPSE_TRY(timeline.timed(Stage::kGenerate, generate));
  return tokens;
}

Result<std::string> text_of_tokens(const Tokenizer& tokenizer, int64_t n, uint64_t seed) {
  Xoshiro256 random(seed);
  std::string text;
  for (int64_t i = 0; i < n; ++i) text += static_cast<char>('0' + random.next() % 10);
  GLIMPSE_ASSIGN(const std::vector<TokenId> ids, tokenizer.encode(text, {}));
  if (static_cast<int64_t>(ids.size()) != n) {
    return make_error(ErrorCode::kUnsupported, "%d digits are %d tokens of this model: the text cannot be made", n,
                      ids.size());
  }
  return text;
}

}  // namespace glimpse::bench
