#include "tools/serve/completion.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostPrompts = 64;

bool is_token_list(const Json& json) {
  return json.is_array() && !json.empty() && json[0].is_number();
}

std::string read_prompt(const Json& prompt, const std::string& path, const Tokenizer& tokenizer) {
  if (prompt.is_string()) return prompt.get<std::string>();
  if (!is_token_list(prompt)) refuse_field(path, "want a string or an array of token ids");
  const std::vector<TokenId> ids = read_token_ids(prompt, path, tokenizer);
  std::string text = tokenizer.decode(ids, true);
  const auto again = tokenizer.encode(text, {.parse_special = true, .normalize_nfc = true});
  if (!again.ok() || again.value() != ids) {
    refuse_field(path, "these token ids are not those of the text that they stand for: send the text");
  }
  return text;
}

std::vector<std::string> read_prompts(Fields& body, const Tokenizer& tokenizer) {
  const Json& prompt = body.need("prompt");
  const std::string path = body.path("prompt");
  if (!prompt.is_array() || is_token_list(prompt)) return {read_prompt(prompt, path, tokenizer)};
  if (prompt.empty() || prompt.size() > kMostPrompts) refuse_field(path, format("want 1 to %d prompts", kMostPrompts));
  std::vector<std::string> prompts;
  for (size_t i = 0; i < prompt.size(); ++i) {
    prompts.push_back(read_prompt(prompt[i], format("%s[%d]", path, i), tokenizer));
  }
  return prompts;
}

class CompletionStyle : public AnswerStyle {
 public:
  CompletionStyle(const CompletionRequest& request, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), request_(request), offsets_(request.prompts.size() * n_choices()) {}

  Json whole(int index, const RequestResult& result) override {
    size_t offset = 0;
    Json choice = choice_of(index, echo_of(index) + result.answer.text);
    if (request_.generation.logprobs) {
      choice["logprobs"] = completion_logprobs(told_tokens(result.answer, tokenizer_), n_top(), tokenizer_, offset);
    }
    choice["finish_reason"] = finish_reason(result.answer);
    return choice;
  }

  Json first(int index) override {
    const std::string text = echo_of(index);
    return text.empty() ? Json(nullptr) : choice_of(index, text);
  }

  Json step(int index, const Session::Step& step) override {
    const bool told =
        request_.generation.logprobs && step.token.id >= 0 && !tokenizer_.is_end_of_generation(step.token.id);
    if (step.text.empty() && !told) return nullptr;
    Json choice = choice_of(index, step.text);
    if (told) {
      choice["logprobs"] = completion_logprobs({step.token}, n_top(), tokenizer_, offsets_[static_cast<size_t>(index)]);
    }
    return choice;
  }

  std::vector<Json> last(int index, const RequestResult& result) override {
    Json choice = choice_of(index, "");
    choice["finish_reason"] = finish_reason(result.answer);
    return {choice};
  }

 private:
  size_t n_choices() const { return static_cast<size_t>(request_.generation.n_choices); }
  int n_top() const { return request_.generation.n_top_logprobs; }
  std::string echo_of(int index) const {
    return request_.echo ? request_.prompts[static_cast<size_t>(index) / n_choices()] : "";
  }
  static Json choice_of(int index, const std::string& text) {
    return {{"index", index}, {"text", text}, {"finish_reason", nullptr}, {"logprobs", nullptr}};
  }

  const Tokenizer& tokenizer_;
  const CompletionRequest request_;
  std::vector<size_t> offsets_;
};

}  // namespace

std::vector<TokenId> read_token_ids(const Json& list, const std::string& path, const Tokenizer& tokenizer) {
  if (!list.is_array()) refuse_field(path, "want an array of token ids");
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const bool is_id =
        list[i].is_number_integer() && list[i].get<int64_t>() >= 0 && list[i].get<int64_t>() < tokenizer.size();
    if (!is_id) refuse_field(format("%s[%d]", path, i), format("want a token id from 0 to %d", tokenizer.size() - 1));
    ids.push_back(list[i].get<TokenId>());
  }
  return ids;
}

CompletionRequest read_completion_request(std::string_view text, const RequestPolicy& policy,
                                          const Tokenizer& tokenizer, FormatCache& formats) {
  const Json json = parse_json(text);
  Fields body(json, "");
  CompletionRequest request;
  Generation& generation = request.generation;
  generation = read_generation(body, policy);
  check_model_name(body, policy, generation.warnings);
  const Json* const logprobs = body.find("logprobs");
  if (logprobs != nullptr && !(logprobs->is_boolean() && !logprobs->get<bool>())) {
    generation.n_top_logprobs = static_cast<int>(body.integer("logprobs", 0, 20, 0));
    generation.logprobs = true;
    generation.options.n_top_logprobs = std::max(1, generation.n_top_logprobs);
  }
  request.echo = body.flag("echo", false);
  if (request.echo && generation.logprobs) refuse_field("echo", "log-probabilities of the prompt are not computed");
  const int64_t best_of = body.integer("best_of", 1, policy.max_choices, generation.n_choices);
  if (best_of != generation.n_choices) refuse_field("best_of", "only the value of n is supported");
  body.refuse({"suffix", "use_beam_search"});
  request.prompts = read_prompts(body, tokenizer);
  if (static_cast<int64_t>(request.prompts.size()) * generation.n_choices > policy.max_choices * 4) {
    refuse_field("prompt", format("prompts and choices together are more than %d answers", policy.max_choices * 4));
  }
  generation.options.constraint = read_answer_format(body, text, tokenizer, formats);
  body.report_unknown(generation.warnings);
  return request;
}

std::shared_ptr<AnswerStyle> completion_style(const CompletionRequest& request, const Tokenizer& tokenizer) {
  return std::make_shared<CompletionStyle>(request, tokenizer);
}

}  // namespace glimpse::serve
