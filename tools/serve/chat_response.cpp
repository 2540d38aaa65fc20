#include "tools/serve/chat_response.h"

#include <utility>

#include "tokenizer/answer_parts.h"

namespace glimpse::serve {
namespace {

class ChatAnswers : public AnswerStyle {
 public:
  ChatAnswers(const ChatRequest& request, const Model& model, std::vector<ShapePicture> pictures, std::string id)
      : model_(model),
        tokenizer_(model.tokenizer()),
        id_(std::move(id)),
        logprobs_(request.generation.logprobs),
        n_top_(request.generation.n_top_logprobs),
        pictures_(std::move(pictures)),
        tools_(request.tools),
        split_{opens_thinking(model.chat_format().style, request.prompt),
               !request.prompt.tools.empty() && request.tools.schema.empty()},
        choices_(static_cast<size_t>(request.generation.n_choices), Choice{AnswerSplitter(split_)}) {}

  Json whole(int index, const RequestResult& result) override {
    const Answer& answer = result.answer;
    const AnswerParts parts = parts_of(answer.text);
    Json message = {{"role", "assistant"}, {"content", parts.content}};
    if (!parts.reasoning.empty()) message["reasoning_content"] = parts.reasoning;
    if (!parts.tool_calls.empty()) {
      if (parts.content.empty()) message["content"] = nullptr;
      for (size_t i = 0; i < parts.tool_calls.size(); ++i) {
        message["tool_calls"].push_back(call_of(parts.tool_calls[i], index, static_cast<int>(i)));
      }
    }
    Json choice = {{"index", index},
                   {"message", std::move(message)},
                   {"finish_reason", reason_of(answer, !parts.tool_calls.empty())},
                   {"logprobs", logprobs_ ? chat_logprobs(answer, n_top_, tokenizer_) : Json(nullptr)}};
    add_shapes(answer, choice);
    return choice;
  }

  Json first(int index) override { return choice_of(index, {{"role", "assistant"}, {"content", nullptr}}); }

  // The first token is told even where it has no text: when it came is what clients measure.
  Json step(int index, const Session::Step& step) override {
    const bool told = logprobs_ && step.token.id >= 0 && !tokenizer_.is_end_of_generation(step.token.id);
    Choice& state = choices_[static_cast<size_t>(index)];
    Json delta = is_forced() ? Json::object() : delta_of(index, state.splitter.push(step.text));
    const bool first = !std::exchange(state.has_token, true);
    if (delta.empty() && first && !is_forced()) delta["content"] = "";
    if (delta.empty() && !told) return nullptr;
    Json choice = choice_of(index, std::move(delta));
    if (told) choice["logprobs"] = {{"content", {chat_logprob(step.token, n_top_, tokenizer_)}}, {"refusal", nullptr}};
    return choice;
  }

  std::vector<Json> last(int index, const RequestResult& result) override {
    Choice& choice = choices_[static_cast<size_t>(index)];
    std::vector<Json> pieces;
    Json rest = delta_of(index, is_forced() ? parts_of(result.answer.text) : choice.splitter.finish());
    if (!rest.empty()) pieces.push_back(choice_of(index, std::move(rest)));
    pieces.push_back(choice_of(index, Json::object()));
    pieces.back()["finish_reason"] = reason_of(result.answer, choice.n_calls > 0);
    add_shapes(result.answer, pieces.back());
    return pieces;
  }

 private:
  struct Choice {
    AnswerSplitter splitter;
    int n_calls = 0;  // told so far
    bool has_token = false;
  };

  bool is_forced() const { return !tools_.schema.empty(); }
  AnswerParts parts_of(const std::string& text) const {
    AnswerParts parts = split_answer(text, split_);
    if (is_forced()) {
      parts.tool_calls = forced_calls(tools_, parts.content);
      parts.content.clear();
    }
    return parts;
  }
  static const char* reason_of(const Answer& answer, bool has_calls) {
    const char* const reason = finish_reason(answer);
    return has_calls && std::string_view(reason) == "stop" ? "tool_calls" : reason;
  }
  static Json choice_of(int index, Json delta) {
    return {{"index", index}, {"delta", std::move(delta)}, {"finish_reason", nullptr}, {"logprobs", nullptr}};
  }
  Json call_of(const ToolCall& call, int index, int number) const {
    return {{"id", format("call_%s_%d_%d", id_, index, number)},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
  }
  Json delta_of(int index, const AnswerParts& parts) {
    Json delta = Json::object();
    if (!parts.reasoning.empty()) delta["reasoning_content"] = parts.reasoning;
    if (!parts.content.empty()) delta["content"] = parts.content;
    for (const ToolCall& call : parts.tool_calls) {
      const int number = choices_[static_cast<size_t>(index)].n_calls++;
      Json told = call_of(call, index, number);
      told["index"] = number;
      delta["tool_calls"].push_back(std::move(told));
    }
    return delta;
  }
  void add_shapes(const Answer& answer, Json& choice) const {
    Json shapes = shapes_of(answer, model_, pictures_);
    if (!shapes.empty()) choice["shapes"] = std::move(shapes);
  }

  const Model& model_;
  const Tokenizer& tokenizer_;
  const std::string id_;
  const bool logprobs_;
  const int n_top_;
  const std::vector<ShapePicture> pictures_;
  const ToolChoice tools_;
  const AnswerSplitter::Options split_;
  std::vector<Choice> choices_;
};

}  // namespace

std::shared_ptr<AnswerStyle> chat_style(const ChatRequest& request, const Model& model,
                                        std::vector<ShapePicture> pictures, const std::string& id) {
  return std::make_shared<ChatAnswers>(request, model, std::move(pictures), id);
}

}  // namespace glimpse::serve
