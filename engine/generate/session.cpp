#include "engine/generate/session.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "engine/base/aligned_buffer.h"
#include "engine/generate/answer_writer.h"
#include "engine/generate/conversation.h"
#include "engine/generate/image_budget.h"
#include "engine/generate/session_plan.h"

namespace glimpse {
namespace {

using Clock = std::chrono::steady_clock;
using Turn = Conversation::Turn;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::string default_system(const Model& model) {
  return default_system_prompt(model.chat_template());
}

// An answer in the making.
struct AnswerState {
  Sampler sampler;
  AnswerWriter writer;
  int64_t max_tokens = 0;
  int n_top_logprobs = 0;
  int64_t n_before = 0;  // tokens of the conversation before this answer's first
};

}  // namespace

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kStopString:
      return "stop_string";
    case FinishReason::kMaxTokens:
      return "max_tokens";
    case FinishReason::kContextFull:
      return "context_full";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

struct Session::Impl {
  Impl(std::shared_ptr<const Model> m, const SessionSizes& s)
      : model(std::move(m)), sizes(s), team(s.n_threads), conversation(model->tokenizer(), default_system(*model)) {}

  const std::shared_ptr<const Model> model;
  const SessionSizes sizes;
  LogSink log_sink;
  std::unique_ptr<Ops> ops;
  ThreadTeam team;  // for pictures' pixels
  std::unique_ptr<VisionEncoder> vision;
  std::unique_ptr<TextDecoder> decoder;
  std::vector<float> logits;  // (vocab_size)
  bool logits_valid = false;  // they are those of the last cache slot

  Conversation conversation;
  Conversation::Checkpoint turn_begin;  // where prefill() or generate() goes back to
  std::optional<AnswerState> answer;    // while one is being made
  Timings timings;
  Timings pictures;  // encoded for the next turn

  Status check_fits(const PromptInput& input) const;
  Status prefill(const std::vector<Message>& messages, const ProgressSink& progress);
  Status forward(const PromptInput& input, const ProgressSink& progress);
  Status forward_pending();
  void give_up_slots(int64_t n);
  void make_last_pending();
  void roll_back();
  Result<AnswerState> make_answer(const GenerateOptions& options) const;
  Status start_answer(AnswerState state);
  bool can_answer() const { return conversation.turn() == Turn::kPrompted || conversation.turn() == Turn::kOpen; }
  Result<Step> step();
  void finish(Step& step, FinishReason reason);
  void forget_stop_string();
  Result<Answer> run_answer(const GenerateOptions& options);
};

Session::Session() = default;
Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  GLIMPSE_ASSIGN(const SessionSizes sizes, session_sizes(*model, options));
  std::unique_ptr<Session> session(new Session());
  session->impl_ = std::make_unique<Impl>(std::move(model), sizes);
  Impl& s = *session->impl_;
  s.log_sink = options.log;
  GLIMPSE_ASSIGN(s.ops, s.model->make_ops(sizes.n_threads));

  const MemoryPlan plan = session_memory(*s.model, *s.ops, sizes, options.kv_element);
  const uint64_t needed = plan.total() - plan.weights, available = available_memory_bytes();
  if (needed > available) {
    return make_error(ErrorCode::kOutOfMemory,
                      "the session needs %.0f MiB, %.0f MiB are available (%s): use a smaller context or fewer image "
                      "tokens",
                      static_cast<double>(needed) / (1 << 20), static_cast<double>(available) / (1 << 20),
                      describe(plan).c_str());
  }
  const auto explain = [&](Error error) {
    if (error.code == ErrorCode::kOutOfMemory) error.message += " (" + describe(plan) + ")";
    return error;
  };
  auto decoder = TextDecoder::create(s.model, *s.ops, sizes.context, sizes.batch, options.kv_element);
  if (!decoder.ok()) return explain(decoder.error());
  s.decoder = std::move(decoder).value();
  if (s.model->has_vision()) {
    auto vision = VisionEncoder::create(s.model, *s.ops, sizes.max_image_patches);
    if (!vision.ok()) return explain(vision.error());
    s.vision = std::move(vision).value();
  }
  s.logits.resize(static_cast<size_t>(s.model->text().vocab_size));
  log(options.log, LogLevel::kInfo,
      format("session: context %lld, %s; %s", static_cast<long long>(sizes.context), s.ops->describe().c_str(),
             describe(plan).c_str()));
  return session;
}

// -- pictures
// ----------------------------------------------------------------------------------------------------------

Result<std::shared_ptr<const ImageEmbedding>> Session::encode_image(const Image& image, Timings* timings,
                                                                    const ProgressSink& progress) {
  Impl& s = *impl_;
  if (!s.model->has_vision()) {
    return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see pictures");
  }
  if (image.width < 1 || image.height < 1 ||
      image.pixels.size() != 3 * static_cast<size_t>(image.width) * static_cast<size_t>(image.height)) {
    return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels with %zu bytes: want 3 per pixel",
                      image.width, image.height, image.pixels.size());
  }
  const VisionConfig& vision = s.model->vision();
  GLIMPSE_ASSIGN(const ImageCost cost, effective_image_size(image.width, image.height, vision, s.sizes.image_limits));
  if (cost.n_tokens > s.sizes.context) {
    return make_error(ErrorCode::kContextFull,
                      "the picture needs %lld tokens; the context holds %lld: use a larger context, or "
                      "--image-max-tokens",
                      static_cast<long long>(cost.n_tokens), static_cast<long long>(s.sizes.context));
  }

  Timings one;
  if (timings != nullptr) one.image_decode = timings->image_decode;
  Clock::time_point start = Clock::now();
  GLIMPSE_ASSIGN(const Image resized, resize_bicubic(image, cost.resized, &s.team));
  GLIMPSE_ASSIGN(const Patches patches, extract_patches(resized, vision.patch, &s.team));
  one.image_resize = ms_since(start);
  start = Clock::now();
  GLIMPSE_ASSIGN(ImageEmbedding embedding, s.vision->encode(patches, {}, progress));
  one.image_encode = ms_since(start);
  embedding.original = {image.width, image.height};
  one.n_image_tokens = embedding.n_tokens;
  log(s.log_sink, LogLevel::kDebug,
      format("picture: %d x %d, resized to %lld x %lld, %lld tokens", image.width, image.height,
             static_cast<long long>(embedding.resized.width), static_cast<long long>(embedding.resized.height),
             static_cast<long long>(embedding.n_tokens)));

  s.pictures.image_decode += one.image_decode;
  s.pictures.image_resize += one.image_resize;
  s.pictures.image_encode += one.image_encode;
  if (timings != nullptr) *timings = one;
  return std::shared_ptr<const ImageEmbedding>(std::make_shared<ImageEmbedding>(std::move(embedding)));
}

// -- the prompt
// --------------------------------------------------------------------------------------------------------

Status Session::Impl::check_fits(const PromptInput& input) const {
  const auto n = static_cast<long long>(input.ids.size());
  const auto used = static_cast<long long>(input.n_before), context = static_cast<long long>(sizes.context);
  if (n <= context - used) return {};
  const size_t n_pictures = input.pictures.size();
  std::string message = format("the prompt has %lld tokens", n);
  if (n_pictures > 0) {
    message += format(" (%lld of them from %zu picture%s)", static_cast<long long>(input.n_image_tokens), n_pictures,
                      n_pictures == 1 ? "" : "s");
  }
  message +=
      format("; the context holds %lld and %lld are used: use a context of at least %lld", context, used, used + n);
  if (n_pictures > 0) message += ", or --image-max-tokens";
  return Error{ErrorCode::kContextFull, std::move(message)};
}

// The slots from n on, which are text, will be computed again with the next pass.
void Session::Impl::give_up_slots(int64_t n) {
  if (n >= conversation.n_cached()) return;
  conversation.uncache_from(n);
  decoder->truncate(n);
  logits_valid = false;
}

void Session::Impl::roll_back() {
  decoder->truncate(turn_begin.n_cached);
  conversation.restore(turn_begin);
  logits_valid = false;
  answer.reset();
}

Status Session::Impl::forward(const PromptInput& input, const ProgressSink& progress) {
  std::vector<float> joined;
  const TextDecoder::Input rows{input.ids, input.positions, input.embedding_rows(joined)};
  ProgressSink as_prefill;
  if (progress) as_prefill = [&](std::string_view, double fraction) { return progress("prefill", fraction); };
  logits_valid = false;
  GLIMPSE_TRY(decoder->forward(rows, logits, false, {}, as_prefill));
  logits_valid = true;
  return {};
}

Status Session::Impl::prefill(const std::vector<Message>& messages, const ProgressSink& progress) {
  if (messages.empty()) return make_error(ErrorCode::kInvalidArgument, "no messages");
  const Clock::time_point start = Clock::now();
  GLIMPSE_ASSIGN(const PromptInput input, conversation.prompt(messages, model->text().hidden_size));
  GLIMPSE_TRY(check_fits(input));

  give_up_slots(input.n_before);
  turn_begin = conversation.checkpoint();
  answer.reset();
  Status done = forward(input, progress);
  if (!done.ok()) {
    roll_back();
    return done;
  }
  conversation.commit(input);

  timings = std::exchange(pictures, {});
  timings.prefill = ms_since(start);
  timings.n_prompt_tokens = static_cast<int64_t>(input.ids.size());
  timings.n_image_tokens = input.n_image_tokens;
  timings.n_cached_tokens = input.n_before;
  return {};
}

Status Session::prefill(const std::vector<Message>& messages, const ProgressSink& progress) {
  return impl_->prefill(messages, progress);
}

// -- the answer
// --------------------------------------------------------------------------------------------------------

Result<AnswerState> Session::Impl::make_answer(const GenerateOptions& options) const {
  if (options.max_tokens < -1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "max_tokens is %lld: it must be at least -1 (-1: until the context is full)",
                      static_cast<long long>(options.max_tokens));
  }
  if (options.n_top_logprobs < 0) {
    return make_error(ErrorCode::kInvalidArgument, "n_top_logprobs is %d: it must be at least 0 (0: none)",
                      options.n_top_logprobs);
  }
  GLIMPSE_ASSIGN(Sampler sampler, Sampler::create(options.sampler, model->text().vocab_size));
  GLIMPSE_ASSIGN(AnswerWriter writer, AnswerWriter::create(model->tokenizer(), options.stop, options.render_special));
  return AnswerState{std::move(sampler), std::move(writer), options.max_tokens, options.n_top_logprobs, 0};
}

Status Session::Impl::start_answer(AnswerState state) {
  if (!can_answer()) {
    return make_error(ErrorCode::kInvalidArgument, conversation.turn() == Turn::kStart
                                                       ? "nothing to answer: there are no messages"
                                                       : "nothing to answer: the last answer is complete");
  }
  make_last_pending();
  state.sampler.accept_prompt(conversation.cached());
  state.sampler.accept_prompt(conversation.pending());
  state.n_before = conversation.n_cached() + static_cast<int64_t>(conversation.pending().size());
  answer.emplace(std::move(state));
  return {};
}

// After an undone call or a stop string the last slot's logits are gone: it is computed again with the next pass.
void Session::Impl::make_last_pending() {
  if (can_answer() && !logits_valid && conversation.pending().empty()) give_up_slots(conversation.n_cached() - 1);
}

Status Session::begin_answer(const GenerateOptions& options) {
  GLIMPSE_ASSIGN(AnswerState state, impl_->make_answer(options));
  return impl_->start_answer(std::move(state));
}

Status Session::Impl::forward_pending() {
  const std::vector<MropePosition> positions = conversation.pending_positions();
  logits_valid = false;
  GLIMPSE_TRY(decoder->forward({conversation.pending(), positions, {}}, logits, false, {}, {}));
  logits_valid = true;
  conversation.commit_pending();
  return {};
}

// The conversation ends where the text does. A token that the stop string began in is replaced by its text before it.
void Session::Impl::forget_stop_string() {
  const AnswerWriter::Prefix prefix = answer->writer.tokens_of_text();
  const auto rest = model->tokenizer().encode(prefix.rest, {.parse_special = false, .normalize_nfc = false});
  const int64_t n_kept = answer->n_before + static_cast<int64_t>(prefix.n_tokens);
  give_up_slots(n_kept);
  conversation.cut(n_kept, rest.ok() ? std::span<const TokenId>(rest.value()) : std::span<const TokenId>());
}

void Session::Impl::finish(Step& step, FinishReason reason) {
  if (!answer->writer.stopped()) step.text += answer->writer.finish();
  if (answer->writer.stopped()) {
    reason = FinishReason::kStopString;
    forget_stop_string();
  }
  if (reason == FinishReason::kStop) conversation.end_answer();
  step.finished = true;
  step.reason = reason;
  answer.reset();
}

Result<Session::Step> Session::Impl::step() {
  if (!answer) {
    return make_error(ErrorCode::kInvalidArgument,
                      "no answer has begun, or it is complete: begin_answer() comes first");
  }
  const Clock::time_point start = Clock::now();
  Step step;
  const auto n_pending = static_cast<int64_t>(conversation.pending().size());
  if (answer->max_tokens == 0) {
    finish(step, FinishReason::kMaxTokens);
    return step;
  }
  if (n_pending > sizes.context - conversation.n_cached()) {
    finish(step, FinishReason::kContextFull);
    return step;
  }
  if (n_pending > 0) GLIMPSE_TRY(forward_pending());
  GLIMPSE_ASSIGN(step.token, answer->sampler.sample(logits, answer->n_top_logprobs));

  const TokenId id = step.token.id;
  const bool ended = model->tokenizer().is_end_of_generation(id);
  answer->sampler.accept(id);
  if (!ended) {
    conversation.append(id);
    step.text = answer->writer.push(id);
  }
  ++timings.n_generated_tokens;
  if (answer->max_tokens > 0) --answer->max_tokens;
  if (ended) {
    finish(step, FinishReason::kStop);
  } else if (answer->writer.stopped()) {
    finish(step, FinishReason::kStopString);
  } else if (answer->max_tokens == 0) {
    finish(step, FinishReason::kMaxTokens);
  } else if (conversation.n_cached() == sizes.context) {
    finish(step, FinishReason::kContextFull);  // the token has no slot, so none can follow
  }
  timings.decode += ms_since(start);
  return step;
}

Result<Session::Step> Session::step() {
  return impl_->step();
}

Result<Answer> Session::Impl::run_answer(const GenerateOptions& options) {
  Answer result;
  for (bool finished = false; !finished;) {
    GLIMPSE_ASSIGN(Step next, step());
    finished = next.finished;
    if (finished) result.reason = next.reason;
    if (next.token.id >= 0) {
      result.tokens.push_back(next.token.id);
      if (options.n_top_logprobs > 0) result.logprobs.push_back(std::move(next.token));
    }
    if (next.text.empty()) continue;
    result.text += next.text;
    const bool wanted = !options.on_text || options.on_text(next.text);
    if (!wanted && !finished) {
      result.reason = FinishReason::kCancelled;
      answer.reset();
      break;
    }
  }
  result.timings = timings;
  return result;
}

Result<Answer> Session::generate(const std::vector<Message>& messages, const GenerateOptions& options) {
  Impl& s = *impl_;
  GLIMPSE_ASSIGN(AnswerState state, s.make_answer(options));  // a bad option is said before the long prefill
  if (!messages.empty()) {
    GLIMPSE_TRY(s.prefill(messages, options.progress));
  } else {
    s.make_last_pending();
    s.turn_begin = s.conversation.checkpoint();
    s.timings = std::exchange(s.pictures, {});
    s.timings.n_cached_tokens = s.conversation.n_cached();
  }
  GLIMPSE_TRY(s.start_answer(std::move(state)));
  Result<Answer> result = s.run_answer(options);
  if (!result.ok()) s.roll_back();
  return result;
}

// ----------------------------------------------------------------------------------------------------------------------

std::span<const float> Session::logits() const {
  if (!impl_->logits_valid) return {};
  return impl_->logits;
}

int64_t Session::n_past() const {
  return impl_->conversation.n_cached();
}

int64_t Session::context() const {
  return impl_->sizes.context;
}

void Session::reset() {
  Impl& s = *impl_;
  s.turn_begin = {};
  s.roll_back();
}

const Timings& Session::timings() const {
  return impl_->timings;
}

}  // namespace glimpse
