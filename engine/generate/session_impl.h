// What a Session is made of. Its functions are in four files: the prompt's in session.cpp, the answer's in
// session_answer.cpp, forks and steps of several in session_family.cpp, bytes in session_state.cpp.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/generate/answer_writer.h"
#include "engine/generate/conversation.h"
#include "engine/generate/session.h"
#include "engine/generate/session_plan.h"
#include "engine/generate/speculative_decoder.h"
#include "engine/generate/workbench.h"

namespace glimpse {

/// An answer in the making.
struct AnswerState {
  Sampler sampler;
  AnswerWriter writer;
  int64_t max_tokens = 0;
  int n_top_logprobs = 0;
  int64_t n_before = 0;  // tokens of the conversation before this answer's first
  std::optional<ConstraintState> constraint;
  std::vector<TokenId> forced;  // by the constraint: what comes next whatever the logits say, last one first
  bool thinks = false;          // until </think>, from where on the constraint holds
};

/// A prompt whose rows go into the cache slice by slice, and the answer that follows.
struct PromptWork {
  std::vector<std::shared_ptr<const ImageEmbedding>> pictures;  // that the input points into
  PromptInput input;
  AnswerState answer;
  int64_t n_done = 0;     // rows in the cache
  int64_t n_adopted = 0;  // of these, computed by others
  double prefill_ms = 0;
  int64_t n_left() const { return input.pass.n_rows() - n_done; }
};

using Clock = std::chrono::steady_clock;

inline double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Session::Impl {
  Impl(std::shared_ptr<const Model> m, const SessionSizes& s)
      : model(std::move(m)), sizes(s), conversation(model->tokenizer(), model->chat_format()) {}

  const std::shared_ptr<const Model> model;
  const SessionSizes sizes;
  LogSink log_sink;
  std::shared_ptr<Workbench> bench;
  std::optional<SpeculativeDecoder> decoder;  // always, once created; n_past() is conversation.n_cached()
  std::optional<Drafter> drafter;             // where there is a draft model

  const volatile int* cancel = nullptr;

  Conversation conversation;
  std::optional<PromptWork> prompt;   // while one is going in; its rows are behind the conversation's in the cache
  std::optional<AnswerState> answer;  // while one is being made
  Answer said;                        // the last answer, or what steps have made of it so far
  Timings timings;
  Timings pictures;  // encoded for the next turn
  bool warned_of_pictures = false;

  class TurnUndo;
  class StepUndo;

  // Pictures and the prompt: session.cpp.
  bool cancelled() const { return cancel != nullptr && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0; }
  ProgressSink watched(const ProgressSink& progress, const char* stage) const;
  Status check_fits(const PromptInput& input) const;
  /// What can be had when n_slots do not fit.
  std::string advice(int64_t n_slots, bool smaller_pictures_fit) const;
  int64_t fewest_image_tokens() const;
  void add_picture_times(const PictureEncoder::Times& times, int64_t n_tokens, Timings* one);
  void warn_of_pictures(const PromptInput& input);
  Result<PromptInput> prepare(const std::vector<Message>& messages);
  Status forward(const PromptInput& input, Clock::time_point start, const ProgressSink& progress);
  void give_up_slots(int64_t n);
  PassRows prompt_slice(int64_t n) const;
  void end_prompt();
  void drop_prompt();

  // The answer: session_answer.cpp.
  static Result<AnswerState> make_answer(const Model& model, const GenerateOptions& options);
  void make_last_pending();
  Status check_can_answer() const;
  Status start_answer(AnswerState state);
  bool can_answer() const {
    return conversation.turn() == Conversation::Turn::kPrompted || conversation.turn() == Conversation::Turn::kOpen;
  }
  std::vector<TokenId> draft();
  Status forward_pending();
  /// The pending token for a step in which the backend draws the next one; nullopt: somebody has to see the logits.
  struct DeviceStep {
    std::vector<float> uniform;
    TextDecoder::StepInput input;  // refers to them
  };
  std::optional<DeviceStep> begin_device_step();
  void end_device_step(const DeviceStep& step);
  static Result<bool> draw_on_device(std::span<Impl* const> sessions, std::span<TokenId> tokens);
  Status begin_step();
  ConstraintState* constraint() { return answer->constraint && !answer->thinks ? &*answer->constraint : nullptr; }
  Result<std::optional<TokenId>> forced_token();
  bool ends_at_once(Step& step) const;
  Status take_step(std::optional<TokenId> id, Step& step);
  void end_step(const Step& step);
  Result<Step> step();
  Status take_token(Step& step);
  Status run_answer(const GenerateOptions& options);

  // Forks: session_family.cpp.
  Result<std::unique_ptr<Session>> sibling() const;
  // Bytes: session_state.cpp.
  uint64_t fingerprint() const;
};

struct Session::Checkpoint::State {
  std::shared_ptr<Workbench> bench;
  SpeculativeDecoder::Mark decoder;
  Conversation::State conversation;
  std::optional<AnswerState> answer;
  Answer said;
  Timings timings, pictures;
};

/// Puts the session back to where it was made, unless kept: whatever ends the call, an error, a cancel or an exception,
/// the conversation, the answer in the making and the last one are as before. Going back allocates nothing.
class Session::Impl::TurnUndo {
 public:
  explicit TurnUndo(Impl& session)
      : s_(session),
        conversation_(session.conversation.checkpoint()),
        answer_(std::exchange(session.answer, std::nullopt)),
        said_(std::move(session.said)),
        timings_(session.timings),
        pictures_(session.pictures) {
    s_.said = {};
  }
  ~TurnUndo() {
    if (kept_) return;
    s_.decoder->truncate(conversation_.n_cached);
    s_.conversation.restore(conversation_);
    s_.answer = std::move(answer_);
    s_.said = std::move(said_);
    s_.timings = timings_;
    s_.pictures = pictures_;
  }
  TurnUndo(const TurnUndo&) = delete;
  TurnUndo& operator=(const TurnUndo&) = delete;
  /// What was said before stays the last answer although the call ended well: a prefill.
  void keep_with_said() {
    s_.said = std::move(said_);
    kept_ = true;
  }
  void keep() { kept_ = true; }

 private:
  Impl& s_;
  Conversation::Checkpoint conversation_;
  std::optional<AnswerState> answer_;
  Answer said_;
  Timings timings_, pictures_;
  bool kept_ = false;
};

/// The same for one step from its draw on: the pass before it need not be undone, its slots stay valid. The sampler
/// counts the token last, so that only its generator goes back.
class Session::Impl::StepUndo {
 public:
  explicit StepUndo(Impl& session)
      : s_(session),
        random_(session.answer->sampler.random()),
        writer_(session.answer->writer.mark()),
        n_text_(session.said.text.size()),
        n_tokens_(session.said.tokens.size()),
        n_logprobs_(session.said.logprobs.size()) {}
  ~StepUndo() {
    if (kept_) return;
    s_.answer->sampler.set_random(random_);
    s_.answer->writer.back_to(std::move(writer_));
    s_.said.text.resize(n_text_);
    s_.said.tokens.resize(n_tokens_);
    s_.said.logprobs.resize(n_logprobs_);
  }
  StepUndo(const StepUndo&) = delete;
  StepUndo& operator=(const StepUndo&) = delete;
  void keep() { kept_ = true; }

 private:
  Impl& s_;
  Xoshiro256 random_;
  AnswerWriter::Mark writer_;
  size_t n_text_, n_tokens_, n_logprobs_;
  bool kept_ = false;
};

}  // namespace glimpse
