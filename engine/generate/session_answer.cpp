// The answer: from the logits of the prompt's last slot to tokens and text.
#include <algorithm>
#include <utility>

#include "engine/generate/prompt_lookup.h"
#include "engine/generate/session_impl.h"

namespace glimpse {
namespace {

// Steps begun on a device before the caller asks for them: one keeps it busy while the host looks at a token, a second
// while the host is late.
constexpr int64_t kStepsAhead = 2;

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

Result<AnswerState> Session::Impl::make_answer(const Model& model, const GenerateOptions& options) {
  if (options.max_tokens < -1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "max_tokens is %d: it must be at least -1 (-1: until the context is full)", options.max_tokens);
  }
  if (options.n_top_logprobs < 0) {
    return make_error(ErrorCode::kInvalidArgument, "n_top_logprobs is %d: it must be at least 0 (0: none)",
                      options.n_top_logprobs);
  }
  GLIMPSE_ASSIGN(Sampler sampler, Sampler::create(options.sampler, model.text().vocab_size));
  GLIMPSE_ASSIGN(AnswerWriter writer, AnswerWriter::create(model.tokenizer(), options.stop, options.render_special));
  AnswerState state{
      std::move(sampler), std::move(writer), options.max_tokens, options.n_top_logprobs, 0, {}, {}, false};
  if (options.constraint != nullptr) {
    if (!options.constraint->is_for(model.tokenizer())) {
      return make_error(ErrorCode::kMismatch, "the constraint was compiled for the tokenizer of another model");
    }
    GLIMPSE_ASSIGN(state.constraint, options.constraint->start());
  }
  return state;
}

Status check_generate_options(const Model& model, const GenerateOptions& options) {
  GLIMPSE_TRY(Session::Impl::make_answer(model, options));
  return {};
}

Status Session::Impl::check_can_answer() const {
  if (can_answer()) return {};
  return make_error(
      ErrorCode::kInvalidArgument, "nothing to answer: %s",
      conversation.turn() == Conversation::Turn::kStart ? "there are no messages" : "the last answer is complete");
}

Status Session::Impl::start_answer(AnswerState state) {
  drop_prompt();
  GLIMPSE_TRY(check_can_answer());
  make_last_pending();
  decoder->drop_drafts();  // of an answer that was cut off: timings count by turn
  state.sampler.accept_prompt(conversation.cached());
  state.sampler.accept_prompt(conversation.pending());
  state.n_before = conversation.n_cached() + static_cast<int64_t>(conversation.pending().size());
  answer.emplace(std::move(state));
  said = {};
  said.thinking_open = answer->thinks = conversation.inside_thinking();
  return {};
}

// After an undone call or a stop string the last slot's logits are gone: it is computed again with the next pass.
void Session::Impl::make_last_pending() {
  const bool lost = conversation.pending().empty() && !decoder->has_logits();
  if (can_answer() && lost) give_up_slots(conversation.n_cached() - 1);
}

Status Session::begin_answer(const GenerateOptions& options) {
  GLIMPSE_ASSIGN(AnswerState state, Impl::make_answer(*impl_->model, options));
  return impl_->start_answer(std::move(state));
}

// What may follow the pending token: no more than the answer can still take, nothing after its end, and no more than
// leaves each row the bits that it has alone. Prompt lookup costs nothing and is asked first.
std::vector<TokenId> Session::Impl::draft() {
  int64_t n =
      std::min({sizes.most_drafts(), sizes.context - conversation.n_cached() - 1, bench->ops->most_rows_alike() - 1});
  if (answer->max_tokens > 0) n = std::min(n, answer->max_tokens - 1);
  if (n < 1 || conversation.pending().size() != 1) return {};
  const Tokenizer& tokenizer = model->tokenizer();
  std::vector<TokenId> tokens(conversation.cached().begin(), conversation.cached().end());
  tokens.push_back(conversation.pending()[0]);
  std::vector<TokenId> drafts = look_up_continuation(tokens, std::min(n, sizes.n_speculate));
  if (drafts.empty() && drafter) {
    const TokenId pads[] = {tokenizer.find("<|image_pad|>"), tokenizer.find("<|video_pad|>")};
    drafts =
        drafter->propose(tokens, pads, n, {answer->sampler, answer->constraint, answer->thinks}, watched({}, nullptr));
  }
  drafts.erase(
      std::find_if(drafts.begin(), drafts.end(), [&](TokenId id) { return tokenizer.is_end_of_generation(id); }),
      drafts.end());
  return drafts;
}

// Nothing is sampled ahead: each step draws from its own logits, drafts only spare it the pass.
Status Session::Impl::forward_pending() {
  const std::span<const TokenId> pending = conversation.pending();
  const bool taken = pending.size() == 1 && decoder->take_draft(pending[0]);
  if (!taken && drafter) drafter->learn(decoder->n_taken(), pending.size() == 1 && !decoder->drafts().empty());
  if (taken) {
    ++timings.n_accepted_tokens;
  } else if (const std::vector<TokenId> drafts = draft(); !drafts.empty()) {
    std::vector<TokenId> ids = {pending[0]};
    ids.insert(ids.end(), drafts.begin(), drafts.end());
    const auto positions = conversation.pending_positions(static_cast<int64_t>(drafts.size()));
    GLIMPSE_TRY(decoder->append_with_drafts(ids, positions));
    timings.n_drafted_tokens += static_cast<int64_t>(decoder->drafts().size());
  } else {
    const auto positions = conversation.pending_positions(0);
    GLIMPSE_TRY(decoder->append({pending, positions, {}}, {}));
  }
  conversation.commit_pending();
  return {};
}

std::optional<Session::Impl::DeviceStep> Session::Impl::begin_device_step() {
  const std::span<const TokenId> pending = conversation.pending();
  const std::optional<DrawOptions> draw = answer->sampler.device_draw();
  if (!draw || answer->constraint || pending.size() != 1 || sizes.most_drafts() > 0 || answer->n_top_logprobs > 0) {
    return std::nullopt;
  }
  // So many steps are wasted at most when the answer ends by what was drawn.
  int64_t n_ahead = std::min(kStepsAhead, sizes.context - conversation.n_cached() - 1);
  if (answer->max_tokens > 0) n_ahead = std::min(n_ahead, answer->max_tokens - 1);
  DeviceStep step{answer->sampler.peek(static_cast<size_t>(1 + n_ahead)), {}};
  step.input = decoder->begin_step(pending[0], conversation.pending_positions(0)[0], *draw, step.uniform);
  return step;
}

void Session::Impl::end_device_step(const DeviceStep& step) {
  decoder->end_step(step.input);
  answer->sampler.skip_draw();
  conversation.commit_pending();
}

// The tokens after the pending ones of sessions on one bench, where the backend draws them and nobody looks at the
// logits. False: it does not, and nothing has changed.
Result<bool> Session::Impl::draw_on_device(std::span<Impl* const> sessions, std::span<TokenId> tokens) {
  if (!sessions[0]->bench->ops->records_steps()) return false;
  std::vector<DeviceStep> steps;
  std::vector<TextDecoder::StepInput> inputs;
  for (Impl* session : sessions) {
    std::optional<DeviceStep> step = session->begin_device_step();
    if (!step) return false;
    inputs.push_back(step->input);
    steps.push_back(std::move(*step));
  }
  GLIMPSE_ASSIGN(const bool drawn, sessions[0]->bench->decoder->step(inputs, tokens));
  for (size_t i = 0; drawn && i < steps.size(); ++i) sessions[i]->end_device_step(steps[i]);
  return drawn;
}

// The token of step.token.id becomes part of the answer. What can fail comes first, so that nothing has changed then.
Status Session::Impl::take_token(Step& step) {
  const TokenId id = step.token.id;
  std::optional<ConstraintState> constrained = answer->constraint;
  if (constraint() != nullptr) GLIMPSE_TRY(constrained->accept(id));
  AnswerWriter& writer = answer->writer;
  const bool ended = model->tokenizer().is_end_of_generation(id);
  if (!ended) step.text = writer.push(id);

  const int64_t n_left = answer->max_tokens > 0 ? answer->max_tokens - 1 : answer->max_tokens;
  step.finished = true;
  if (ended) {
    step.reason = FinishReason::kStop;
  } else if (n_left == 0) {
    step.reason = FinishReason::kMaxTokens;
  } else if (conversation.n_cached() + static_cast<int64_t>(conversation.pending().size()) >= sizes.context) {
    step.reason = FinishReason::kContextFull;  // the token has no slot, so none can follow
  } else {
    step.finished = writer.stopped();
  }
  if (step.finished && !writer.stopped()) step.text += writer.finish();

  // The conversation ends where the text does. A token that the stop string began in is replaced by its text before it.
  int64_t n_kept = -1;
  std::vector<TokenId> rest;
  if (writer.stopped()) {
    step.reason = FinishReason::kStopString;
    const AnswerWriter::Prefix prefix = writer.tokens_of_text();
    n_kept = answer->n_before + static_cast<int64_t>(prefix.n_tokens);
    auto encoded = model->tokenizer().encode(prefix.rest, {.parse_special = false, .normalize_nfc = false});
    if (encoded.ok()) rest = std::move(encoded).value();
    conversation.reserve(sizes.context + 1 + static_cast<int64_t>(rest.size()));
  }
  said.text += step.text;
  said.tokens.push_back(id);
  if (answer->n_top_logprobs > 0) said.logprobs.push_back(step.token);
  answer->sampler.accept(id);

  answer->constraint = std::move(constrained);
  if (answer->thinks && answer->constraint) answer->thinks = id != model->tokenizer().find("</think>");
  if (!answer->forced.empty() && answer->forced.back() == id) {
    answer->forced.pop_back();
  } else {
    answer->forced.clear();
  }
  answer->max_tokens = n_left;
  if (!ended) conversation.append(id);
  if (n_kept >= 0) {
    give_up_slots(n_kept);
    conversation.cut(n_kept, rest);
  }
  return {};
}

Status Session::Impl::begin_step() {
  drop_prompt();
  if (!answer) {
    return make_error(ErrorCode::kInvalidArgument,
                      "no answer has begun, or it is complete: begin_answer() comes first");
  }
  make_last_pending();
  return {};
}

// The token that the constraint leaves no choice about, which needs no logits; nullopt: there is a choice.
Result<std::optional<TokenId>> Session::Impl::forced_token() {
  if (constraint() == nullptr || answer->n_top_logprobs > 0) return std::optional<TokenId>();
  if (answer->forced.empty()) {
    GLIMPSE_ASSIGN(answer->forced, answer->constraint->forced_tokens(model->tokenizer()));
    std::reverse(answer->forced.begin(), answer->forced.end());
  }
  return answer->forced.empty() ? std::optional<TokenId>() : answer->forced.back();
}

// Before the first token, so that there is no text either.
bool Session::Impl::ends_at_once(Step& step) const {
  const bool no_room = static_cast<int64_t>(conversation.pending().size()) > sizes.context - conversation.n_cached();
  if (answer->max_tokens != 0 && !no_room) return false;
  step.finished = true;
  step.reason = answer->max_tokens == 0 ? FinishReason::kMaxTokens : FinishReason::kContextFull;
  return true;
}

// The token is `id`, or drawn from the logits of the last slot.
Status Session::Impl::take_step(std::optional<TokenId> id, Step& step) {
  StepUndo undo(*this);
  if (id) {
    step.token.id = *id;
  } else {
    GLIMPSE_ASSIGN(const std::span<float> logits, decoder->logits());
    GLIMPSE_ASSIGN(step.token, answer->sampler.sample(logits, answer->n_top_logprobs, constraint()));
  }
  GLIMPSE_TRY(take_token(step));
  undo.keep();
  ++timings.n_generated_tokens;
  return {};
}

void Session::Impl::end_step(const Step& step) {
  if (!step.finished) return;
  if (step.reason == FinishReason::kStop) conversation.end_answer();
  said.finished = true;
  said.reason = step.reason;
  answer.reset();
}

Result<Session::Step> Session::Impl::step() {
  const Clock::time_point start = Clock::now();
  Step step;
  GLIMPSE_TRY(begin_step());
  if (!ends_at_once(step)) {
    GLIMPSE_ASSIGN(std::optional<TokenId> known, forced_token());
    if (!known) {
      Impl* const self = this;
      TokenId token = 0;
      GLIMPSE_ASSIGN(const bool drawn, draw_on_device(std::span(&self, 1), std::span(&token, 1)));
      if (drawn) known = token;
    }
    if (!known && !conversation.pending().empty()) GLIMPSE_TRY(forward_pending());
    GLIMPSE_TRY(take_step(known, step));
    timings.decode += ms_since(start);
  }
  end_step(step);
  return step;
}

Result<Session::Step> Session::step() {
  if (impl_->cancelled()) return make_error(ErrorCode::kCancelled, "the step was cancelled");
  return impl_->step();
}

Result<Session::Step> Session::feed(TokenId id) {
  Impl& s = *impl_;
  GLIMPSE_TRY(s.begin_step());
  if (id < 0 || id >= s.model->text().vocab_size) {
    return make_error(ErrorCode::kInvalidArgument, "token %d: the vocabulary has ids 0 to %d", id,
                      s.model->text().vocab_size - 1);
  }
  Step step;
  if (!s.ends_at_once(step)) GLIMPSE_TRY(s.take_step(id, step));
  s.end_step(step);
  return step;
}

Status Session::forward() {
  Impl& s = *impl_;
  if (s.cancelled()) return make_error(ErrorCode::kCancelled, "the pass was cancelled");
  s.drop_prompt();
  s.make_last_pending();
  const auto n_pending = static_cast<int64_t>(s.conversation.pending().size());
  if (n_pending == 0) return {};
  if (n_pending > s.sizes.context - s.conversation.n_cached()) {
    return make_error(ErrorCode::kContextFull, "%d tokens wait for a slot; the context holds %d and %d are used",
                      n_pending, s.sizes.context, s.conversation.n_cached());
  }
  const Clock::time_point start = Clock::now();
  GLIMPSE_TRY(s.forward_pending());
  s.timings.decode += ms_since(start);
  return {};
}

Status Session::Impl::run_answer(const GenerateOptions& options) {
  while (answer) {
    bool wanted = !cancelled();
    if (wanted) {
      GLIMPSE_ASSIGN(const Step next, step());
      // Asked for every token, but not for the nothing that an end may bring.
      const bool tell = options.on_text && !(next.finished && next.text.empty());
      wanted = !tell || options.on_text(next.text);
    }
    if (wanted || !answer) continue;
    said.finished = true;
    said.reason = FinishReason::kCancelled;
    answer.reset();
  }
  said.timings = timings;
  return {};
}

Result<Answer> Session::generate(const std::vector<Message>& messages, const GenerateOptions& options) {
  Impl& s = *impl_;
  GLIMPSE_ASSIGN(AnswerState state,
                 Impl::make_answer(*s.model, options));  // a bad option is said before the long prefill
  const Clock::time_point start = Clock::now();
  std::optional<PromptInput> input;
  if (!messages.empty()) {
    GLIMPSE_ASSIGN(input, s.prepare(messages));
  } else {
    s.drop_prompt();
    GLIMPSE_TRY(s.check_can_answer());
    s.make_last_pending();
  }
  Impl::TurnUndo undo(s);
  if (input) {
    GLIMPSE_TRY(s.forward(*input, start, options.progress));
  } else {
    s.timings = std::exchange(s.pictures, {});
    s.timings.n_cached_tokens = s.conversation.n_cached();
  }
  GLIMPSE_TRY(s.start_answer(std::move(state)));
  GLIMPSE_TRY(s.run_answer(options));
  Answer answer = s.said;
  undo.keep();
  return answer;
}

}  // namespace glimpse
