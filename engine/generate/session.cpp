#include "engine/generate/session.h"

#include <algorithm>
#include <utility>

#include "engine/base/checked.h"
#include "engine/generate/session_impl.h"

namespace glimpse {

Session::Session() = default;
Session::~Session() = default;

namespace {

Status check_speaks(const TextConfig& text) {
  if (text.pooling == Pooling::kNone) return {};
  return make_error(ErrorCode::kUnsupported, "%s is %s model (pooling_type %s): it makes %s, not answers",
                    text.name.empty() ? text.architecture : text.name,
                    text.pooling == Pooling::kRank ? "a reranking" : "an embedding", pooling_name(text.pooling),
                    text.pooling == Pooling::kRank ? "scores" : "vectors");
}

}  // namespace

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  GLIMPSE_TRY(check_speaks(model->text()));
  GLIMPSE_ASSIGN(const SessionSizes sizes, session_sizes(*model, options));
  GLIMPSE_ASSIGN(std::unique_ptr<Ops> ops, model->make_ops(sizes.n_threads, options.log));
  const MemoryPlan plan = session_memory(*model, *ops, sizes, options.kv_element);
  const char* const advice =
      model->has_vision() ? "a smaller context or a smaller image_max_tokens" : "a smaller context";
  GLIMPSE_TRY(check_available(plan, *ops, "the session", advice));
  auto bench = Workbench::create(model, sizes, std::move(ops), options.kv_element);
  if (!bench.ok()) return explain(std::move(bench).error(), plan);
  auto session = create(std::move(model), bench.value(), sizes, options.log);
  if (!session.ok()) return explain(std::move(session).error(), plan);
  session.value()->impl_->cancel = options.cancel;
  log(options.log, LogLevel::kInfo,
      format("session: context %d, %s; %s", sizes.context, bench.value()->ops->describe(), describe(plan)));
  return session;
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model, std::shared_ptr<Workbench> bench,
                                                 const SessionSizes& sizes, LogSink log) {
  std::unique_ptr<Session> session(new Session());
  session->impl_ = std::make_unique<Impl>(std::move(model), sizes);
  Impl& s = *session->impl_;
  s.log_sink = std::move(log);
  s.conversation.reserve(sizes.context + 1);  // the last token may have no slot
  s.bench = std::move(bench);
  GLIMPSE_ASSIGN(SpeculativeDecoder decoder, SpeculativeDecoder::create(*s.model, s.bench, sizes));
  s.decoder.emplace(std::move(decoder));
  if (s.bench->draft != nullptr) {
    GLIMPSE_ASSIGN(Drafter drafter, Drafter::create(*s.bench->draft));
    s.drafter.emplace(std::move(drafter));
  }
  return session;
}

// -- pictures
// ----------------------------------------------------------------------------------------------------------

DecodeOptions Session::decode_options(const ProgressSink& progress) const {
  DecodeOptions options;
  options.limits = impl_->sizes.source_limits;
  options.progress = impl_->watched(progress, nullptr);
  return options;
}

Result<std::shared_ptr<const ImageEmbedding>> Session::encode_image(ImageReader& picture, Timings* timings,
                                                                    const ProgressSink& progress) {
  Impl& s = *impl_;
  if (!s.model->has_vision()) {
    return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see pictures");
  }
  const auto fits = [&](int64_t n_tokens) -> Status {
    if (n_tokens <= s.sizes.context) return {};
    return make_error(ErrorCode::kContextFull, "the picture needs %d tokens; the context holds %d%s", n_tokens,
                      s.sizes.context, s.advice(n_tokens, s.fewest_image_tokens() <= s.sizes.context));
  };
  PictureEncoder::Times times;
  GLIMPSE_ASSIGN(ImageEmbedding embedding,
                 s.bench->encoder->encode(picture, fits, &times, s.watched(progress, nullptr)));
  log(s.log_sink, LogLevel::kDebug,
      format("picture: %d x %d, resized to %d x %d, %d tokens", embedding.original.width, embedding.original.height,
             embedding.resized.width, embedding.resized.height, embedding.n_tokens));

  s.add_picture_times(times, embedding.n_tokens, timings);
  return std::shared_ptr<const ImageEmbedding>(std::make_shared<ImageEmbedding>(std::move(embedding)));
}

Result<std::shared_ptr<const ImageEmbedding>> Session::encode_image(const Image& image, Timings* timings,
                                                                    const ProgressSink& progress) {
  GLIMPSE_TRY(check_pixels(image));
  const auto reader =
      read_pixels_of(image.pixels.data(), image.width, image.height, 3 * static_cast<size_t>(image.width));
  return encode_image(*reader, timings, progress);
}

Result<std::shared_ptr<const ImageEmbedding>> Session::encode_video(const VideoFrames& video, Timings* timings,
                                                                    const ProgressSink& progress) {
  Impl& s = *impl_;
  if (!s.model->has_vision()) {
    return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see videos");
  }
  const auto fits = [&](const ImageCost& cost) -> Status {
    if (cost.n_tokens <= s.sizes.context) return {};
    return make_error(
        ErrorCode::kContextFull,
        "the video's %d frames of %d x %d pixels need %d tokens; the context holds %d%s, or fewer frames or a "
        "smaller limit of tokens",
        video.n_frames, cost.resized.width, cost.resized.height, cost.n_tokens, s.sizes.context,
        s.advice(cost.n_tokens, false));
  };
  PictureEncoder::Times times;
  GLIMPSE_ASSIGN(ImageEmbedding embedding,
                 s.bench->encoder->encode_video(video, fits, &times, s.watched(progress, nullptr)));
  log(s.log_sink, LogLevel::kDebug,
      format("video: %d frames of %d x %d, resized to %d x %d, %d tokens", video.n_frames, embedding.original.width,
             embedding.original.height, embedding.resized.width, embedding.resized.height, embedding.n_tokens));
  s.add_picture_times(times, embedding.n_tokens, timings);
  return std::shared_ptr<const ImageEmbedding>(std::make_shared<ImageEmbedding>(std::move(embedding)));
}

// -- the prompt
// --------------------------------------------------------------------------------------------------------

// one: nullptr, or the record of this one.
void Session::Impl::add_picture_times(const PictureEncoder::Times& times, int64_t n_tokens, Timings* one) {
  pictures.image_decode += times.decode;
  pictures.image_resize += times.resize;
  pictures.image_encode += times.encode;
  if (one == nullptr) return;
  *one = {};
  one->image_decode = times.decode;
  one->image_resize = times.resize;
  one->image_encode = times.encode;
  one->n_image_tokens = n_tokens;
}

int64_t Session::Impl::fewest_image_tokens() const {
  if (!model->has_vision()) return INT64_MAX;  // pictures come encoded
  const int64_t factor = model->vision().resize_factor();
  return std::max<int64_t>(1, ceil_div(sizes.image_limits.min_pixels, factor * factor));
}

std::string Session::Impl::advice(int64_t n_slots, bool smaller_pictures_fit) const {
  const int64_t trained = model->text().max_position_embeddings;
  std::string text;
  if (n_slots <= trained) text = format(": use a context of at least %lld", static_cast<long long>(n_slots));
  if (smaller_pictures_fit) text += std::string(text.empty() ? ": use " : ", or ") + "a smaller image_max_tokens";
  if (!text.empty()) return text;
  return format("; the model was trained for %lld and takes no more: shorten it%s", static_cast<long long>(trained),
                conversation.n_cached() > 0 ? ", or begin a new conversation" : "");
}

Status Session::Impl::check_fits(const PromptInput& input) const {
  const auto n = input.pass.n_rows();
  const int64_t used = input.n_before, room = sizes.context - used;
  if (n <= room) return {};
  const auto n_pictures = static_cast<int64_t>(input.pictures.size());
  std::string message = format("the prompt has %lld tokens", static_cast<long long>(n));
  if (n_pictures > 0) {
    message += format(" (%lld of them from %lld picture%s)", static_cast<long long>(input.n_image_tokens),
                      static_cast<long long>(n_pictures), n_pictures == 1 ? "" : "s");
  }
  message += format("; the context holds %lld and %lld are used", static_cast<long long>(sizes.context),
                    static_cast<long long>(used));
  const int64_t for_pictures = room - (n - input.n_image_tokens);  // what the text leaves
  const bool smaller_fit = n_pictures > 0 && for_pictures / n_pictures >= fewest_image_tokens();
  return Error{ErrorCode::kContextFull, message + advice(used + n, smaller_fit)};
}

// Once per session: what its pictures cannot be checked for.
void Session::Impl::warn_of_pictures(const PromptInput& input) {
  if (input.pictures.empty() || model->has_vision() || std::exchange(warned_of_pictures, true)) return;
  log(log_sink, LogLevel::kWarning,
      model->text().sees_pictures()
          ? "the model was loaded without a vision file: whether an embedding was made for it cannot be checked"
          : "the model was not trained on pictures: what it says about them will be wrong");
}

// The slots from n on, which are text, will be computed again with the next pass.
void Session::Impl::give_up_slots(int64_t n) {
  if (n >= conversation.n_cached()) return;
  conversation.uncache_from(n);
  decoder->truncate(n);
}

// The host's callback and its cancel flag as one; the stage's name is `stage` unless that is nullptr.
ProgressSink Session::Impl::watched(const ProgressSink& progress, const char* stage) const {
  if (!progress && cancel == nullptr) return {};
  return [this, progress, stage](std::string_view name, double fraction) {
    return !cancelled() && (!progress || progress(stage != nullptr ? stage : name, fraction));
  };
}

Status Session::Impl::forward(const PromptInput& input, Clock::time_point start, const ProgressSink& progress) {
  GLIMPSE_TRY(decoder->append(input.pass.rows(), watched(progress, "prefill")));
  conversation.commit(input);
  timings = std::exchange(pictures, {});
  timings.prefill = ms_since(start);
  timings.n_prompt_tokens = input.pass.n_rows();
  timings.n_image_tokens = input.n_image_tokens;
  timings.n_cached_tokens = input.n_before;
  return {};
}

// The rows that the messages add. Slots whose tokens move to the front of them are given up already: where nothing
// comes of it they are computed again with the next pass.
Result<PromptInput> Session::Impl::prepare(const std::vector<Message>& messages) {
  drop_prompt();
  if (messages.empty()) return make_error(ErrorCode::kInvalidArgument, "no messages");
  GLIMPSE_ASSIGN(PromptInput input,
                 conversation.prompt(messages, model->text().embedding_width(), model->vision_fingerprint()));
  GLIMPSE_TRY(check_fits(input));
  warn_of_pictures(input);
  give_up_slots(input.n_before);
  return input;
}

void Session::set_prompt_options(PromptOptions options) {
  impl_->conversation.set_options(std::move(options));
}

Status Session::prefill(const std::vector<Message>& messages, const ProgressSink& progress) {
  Impl& s = *impl_;
  const Clock::time_point start = Clock::now();
  GLIMPSE_ASSIGN(const PromptInput input, s.prepare(messages));
  Impl::TurnUndo undo(s);
  GLIMPSE_TRY(s.forward(input, start, progress));
  undo.keep_with_said();
  return {};
}

// -- a prompt in slices
// ------------------------------------------------------------------------------------------------

Status Session::begin(const std::vector<Message>& messages, const GenerateOptions& options) {
  Impl& s = *impl_;
  GLIMPSE_ASSIGN(AnswerState answer, Impl::make_answer(*s.model, options));
  GLIMPSE_ASSIGN(PromptInput input, s.prepare(messages));
  answer.sampler.accept_prompt(s.conversation.cached());
  answer.sampler.accept_prompt(input.history_ids);
  answer.n_before = input.n_before + input.pass.n_rows();
  PromptWork work{{}, std::move(input), std::move(answer)};
  for (const Message& message : messages) {
    for (const MessagePart& part : message.parts) {
      if (part.image != nullptr) work.pictures.push_back(part.image);
    }
  }
  s.prompt.emplace(std::move(work));
  return {};
}

// The next n rows.
PassRows Session::Impl::prompt_slice(int64_t n) const {
  const PassRows all = prompt->input.pass.rows();
  const auto first = static_cast<size_t>(prompt->n_done), count = static_cast<size_t>(n);
  const auto n_floats = [&](std::span<const TokenId> ids) {
    return static_cast<size_t>(std::count(ids.begin(), ids.end(), PassRows::kPicture) *
                               model->text().embedding_width());
  };
  const std::span<const TokenId> ids = all.ids.subspan(first, count);
  return {ids, all.positions.subspan(first, count),
          all.embeddings.subspan(n_floats(all.ids.first(first)), n_floats(ids))};
}

// All rows are in the cache. Allocates nothing.
void Session::Impl::end_prompt() {
  PromptWork& work = *prompt;
  conversation.commit(work.input);
  timings = std::exchange(pictures, {});
  timings.prefill = work.prefill_ms;
  timings.n_prompt_tokens = work.input.pass.n_rows() - work.n_adopted;
  timings.n_image_tokens = work.input.n_image_tokens;
  timings.n_cached_tokens = work.input.n_before + work.n_adopted;
  answer.emplace(std::move(work.answer));
  said = {};
  said.thinking_open = answer->thinks = conversation.inside_thinking();
  prompt.reset();
}

void Session::Impl::drop_prompt() {
  if (!prompt) return;
  prompt.reset();
  decoder->truncate(conversation.n_cached());
}

std::span<const TokenId> Session::prompt_rows() const {
  return impl_->prompt ? impl_->prompt->input.pass.rows().ids : std::span<const TokenId>();
}

int64_t Session::n_prompt_left() const {
  return impl_->prompt ? impl_->prompt->n_left() : 0;
}

Status Session::adopt(std::span<const int32_t> pages, int64_t n) {
  Impl& s = *impl_;
  if (!s.prompt || s.prompt->n_done > s.prompt->n_adopted || s.prompt->input.n_before > 0 || n < 0 ||
      n >= s.prompt->input.pass.n_rows() || KvPages::pages_for(n) != static_cast<int64_t>(pages.size())) {
    return make_error(ErrorCode::kInvalidArgument, "%d pages of %d rows, which are no beginning of a prompt that waits",
                      pages.size(), n);
  }
  s.prompt->n_done = s.prompt->n_adopted = 0;
  s.decoder->truncate(0);
  GLIMPSE_TRY(s.decoder->cache().adopt(pages, n));
  s.prompt->n_done = s.prompt->n_adopted = n;
  return {};
}

int64_t Session::n_pending() const {
  return static_cast<int64_t>(impl_->conversation.pending().size());
}

std::span<const TokenId> Session::cached_tokens() const {
  return impl_->conversation.cached();
}

KvCache& Session::cache() {
  return impl_->decoder->cache();
}

// ----------------------------------------------------------------------------------------------------------------------

Result<std::span<const float>> Session::logits() const {
  GLIMPSE_ASSIGN(const std::span<float> logits, impl_->decoder->logits());
  return std::span<const float>(logits);
}

const Answer& Session::answer() const {
  return impl_->said;
}

Answer Session::take_answer() {
  Answer answer = std::exchange(impl_->said, {});
  answer.timings = impl_->timings;
  return answer;
}

int64_t Session::n_past() const {
  return impl_->conversation.n_cached();
}

int64_t Session::n_past_as_prompt() const {
  return impl_->conversation.n_cached_as_prompt();
}

int64_t Session::context() const {
  return impl_->sizes.context;
}

const SessionSizes& Session::sizes() const {
  return impl_->sizes;
}

void Session::reset() {
  Impl& s = *impl_;
  s.drop_prompt();
  s.decoder->truncate(0);
  if (s.drafter) s.drafter->forget();
  s.conversation.restore({});
  s.answer.reset();
  s.said = {};
}

const Timings& Session::timings() const {
  return impl_->timings;
}

}  // namespace glimpse
