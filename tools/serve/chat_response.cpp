#include "tools/serve/chat_response.h"

namespace glimpse::serve {
namespace {

class ChatStyle : public AnswerStyle {
 public:
  ChatStyle(const ChatRequest& request, const Model& model)
      : model_(model),
        tokenizer_(model.tokenizer()),
        logprobs_(request.generation.logprobs),
        n_top_(request.generation.n_top_logprobs),
        n_pictures_(request.n_pictures) {}

  Json whole(int index, const RequestResult& result) override {
    const Answer& answer = result.answer;
    Json choice = {{"index", index},
                   {"message", {{"role", "assistant"}, {"content", answer.text}}},
                   {"finish_reason", finish_reason(answer)},
                   {"logprobs", logprobs_ ? chat_logprobs(answer, n_top_, tokenizer_) : Json(nullptr)}};
    add_shapes(answer, choice);
    return choice;
  }

  Json first(int index) override { return delta(index, {{"role", "assistant"}, {"content", nullptr}}); }

  Json step(int index, const Session::Step& step) override {
    const bool told = logprobs_ && step.token.id >= 0 && !tokenizer_.is_end_of_generation(step.token.id);
    if (step.text.empty() && !told) return nullptr;
    Json choice = delta(index, {{"content", step.text}});
    if (told) choice["logprobs"] = {{"content", {chat_logprob(step.token, n_top_, tokenizer_)}}, {"refusal", nullptr}};
    return choice;
  }

  std::vector<Json> last(int index, const RequestResult& result) override {
    Json choice = delta(index, Json::object());
    choice["finish_reason"] = finish_reason(result.answer);
    add_shapes(result.answer, choice);
    return {choice};
  }

 private:
  static Json delta(int index, Json fields) {
    return {{"index", index}, {"delta", std::move(fields)}, {"finish_reason", nullptr}, {"logprobs", nullptr}};
  }
  void add_shapes(const Answer& answer, Json& choice) const {
    Json shapes = shapes_of(answer, model_, n_pictures_);
    if (!shapes.empty()) choice["shapes"] = std::move(shapes);
  }

  const Model& model_;
  const Tokenizer& tokenizer_;
  const bool logprobs_;
  const int n_top_;
  const size_t n_pictures_;
};

}  // namespace

std::shared_ptr<AnswerStyle> chat_style(const ChatRequest& request, const Model& model) {
  return std::make_shared<ChatStyle>(request, model);
}

}  // namespace glimpse::serve
