// What a Session is made of. Its functions are in two files: the prompt's in session.cpp, the answer's in
// session_answer.cpp.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/generate/answer_writer.h"
#include "engine/generate/conversation.h"
#include "engine/generate/picture_encoder.h"
#include "engine/generate/session.h"
#include "engine/generate/session_plan.h"
#include "engine/generate/speculative_decoder.h"

namespace glimpse {

/// An answer in the making.
struct AnswerState {
  Sampler sampler;
  AnswerWriter writer;
  int64_t max_tokens = 0;
  int n_top_logprobs = 0;
  int64_t n_before = 0;  // tokens of the conversation before this answer's first
};

using Clock = std::chrono::steady_clock;

inline double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Session::Impl {
  Impl(std::shared_ptr<const Model> m, const SessionSizes& s)
      : model(std::move(m)),
        sizes(s),
        conversation(model->tokenizer(), default_system_prompt(model->chat_template())) {}

  const std::shared_ptr<const Model> model;
  const SessionSizes sizes;
  LogSink log_sink;
  std::unique_ptr<Ops> ops;
  std::unique_ptr<PictureEncoder> encoder;    // where the model has eyes
  std::optional<SpeculativeDecoder> decoder;  // always, once created; n_past() is conversation.n_cached()

  Conversation conversation;
  Conversation::Checkpoint turn_begin;  // where prefill() or generate() goes back to
  std::optional<AnswerState> answer;    // while one is being made
  Timings timings;
  Timings pictures;  // encoded for the next turn

  // Pictures and the prompt: session.cpp.
  Status check_fits(const PromptInput& input) const;
  Status prefill(const std::vector<Message>& messages, const ProgressSink& progress);
  Status forward(const PromptInput& input, const ProgressSink& progress);
  void give_up_slots(int64_t n);
  void roll_back();

  // The answer: session_answer.cpp.
  Result<AnswerState> make_answer(const GenerateOptions& options) const;
  void make_last_pending();
  Status start_answer(AnswerState state);
  bool can_answer() const {
    return conversation.turn() == Conversation::Turn::kPrompted || conversation.turn() == Conversation::Turn::kOpen;
  }
  std::vector<TokenId> draft() const;
  Status forward_pending();
  Result<std::optional<TokenId>> draw_on_device();
  Result<Step> step();
  void finish(Step& step, FinishReason reason);
  void forget_stop_string();
  Result<Answer> run_answer(const GenerateOptions& options);
};

}  // namespace glimpse
