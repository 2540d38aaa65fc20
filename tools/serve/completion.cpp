#include "tools/serve/completion.h"

#include <algorithm>

#include "tokenizer/token_trie.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostPrompts = 64;

constexpr std::string_view kPlace = "<__media__>";

bool is_token_list(const Json& json) {
  return json.is_array() && !json.empty() && json[0].is_number();
}

TokenId read_token_id(const Json& json, const std::string& path, const Tokenizer& tokenizer) {
  const bool is_id = json.is_number_integer() && json.get<int64_t>() >= 0 && json.get<int64_t>() < tokenizer.size();
  if (!is_id) refuse_field(path, format("want a token id from 0 to %d", tokenizer.size() - 1));
  return json.get<TokenId>();
}

/// Reads prompts, and counts their pictures.
class PromptReader {
 public:
  PromptReader(const RequestPolicy& policy, const ChatContext& context)
      : policy_(policy), tokenizer_(context.tokenizer), texts_(context.texts), n_positions_(context.n_positions) {}

  std::vector<CompletionPrompt> read(Fields& body, bool* is_list) {
    const Json& prompt = body.need("prompt");
    const std::string path = body.path("prompt");
    *is_list = prompt.is_array() && !is_token_list(prompt);
    if (!*is_list) return {read_one(prompt, path)};
    if (prompt.empty() || prompt.size() > kMostPrompts) {
      refuse_field(path, format("want 1 to %d prompts", kMostPrompts));
    }
    std::vector<CompletionPrompt> prompts;
    for (size_t i = 0; i < prompt.size(); ++i) prompts.push_back(read_one(prompt[i], format("%s[%d]", path, i)));
    return prompts;
  }
  const std::vector<std::string>& picture_paths() const { return picture_paths_; }

 private:
  static CompletionPrompt of_text(std::string text) { return {text, {{text, nullptr}}}; }

  CompletionPrompt read_one(const Json& prompt, const std::string& path) {
    if (prompt.is_string()) return of_text(take(prompt));
    if (is_token_list(prompt)) return of_text(read_tokens(prompt, path));
    if (!prompt.is_object()) refuse_field(path, "want a string, an array of token ids or an object with prompt_string");
    Fields fields(prompt, path);
    const Json& given = fields.need("prompt_string");
    if (!given.is_string()) refuse_field(fields.path("prompt_string"), "want a string");
    const std::string text = take(given);
    const Json* const media = fields.find("multimodal_data");
    if (media == nullptr) return of_text(text);
    return with_pictures(text, *media, path, fields.path("multimodal_data"));
  }

  // A string, unless it is too long.
  std::string take(const Json& text) const {
    check_positions(fewest_tokens(tokenizer_, text.get_ref<const std::string&>().size()), n_positions_);
    return text.get<std::string>();
  }

  // A token of two digits may be a hundred blanks.
  size_t n_bytes_of(const Json& list, const std::string& path) const {
    size_t n = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      n += list[i].is_string()
               ? list[i].get_ref<const std::string&>().size()
               : tokenizer_.token_bytes(read_token_id(list[i], format("%s[%d]", path, i), tokenizer_), true).size();
    }
    return n;
  }

  // Ids with texts between them: what they are together, where it has these very tokens.
  std::string read_tokens(const Json& list, const std::string& path) const {
    check_positions(static_cast<int64_t>(list.size()), n_positions_);
    const auto held = texts_.enter(n_bytes_of(list, path));
    std::string text;
    std::vector<TokenId> ids;
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string at = format("%s[%d]", path, i);
      if (list[i].is_string()) {
        const std::string piece = take(list[i]);
        const auto own = tokenizer_.encode(piece, {.parse_special = true, .normalize_nfc = true});
        if (!own.ok()) refuse_field(at, own.error().message);
        text += piece;
        ids.insert(ids.end(), own.value().begin(), own.value().end());
        check_positions(static_cast<int64_t>(ids.size()), n_positions_);
      } else {
        ids.push_back(read_token_id(list[i], at, tokenizer_));
        text += tokenizer_.token_bytes(ids.back(), true);
      }
    }
    const auto again = tokenizer_.encode(text, {.parse_special = true, .normalize_nfc = true});
    if (!again.ok() || again.value() != ids) {
      refuse_field(path, "these token ids are not those of the text that they stand for: send the text");
    }
    return text;
  }

  CompletionPrompt with_pictures(const std::string& text, const Json& media, const std::string& path,
                                 const std::string& media_path) {
    const bool is_list =
        media.is_array() && std::all_of(media.begin(), media.end(), [](const Json& one) { return one.is_string(); });
    if (!is_list) refuse_field(media_path, "want an array of pictures in base64");
    CompletionPrompt prompt{text, {}};
    size_t begin = 0;
    for (size_t i = 0;; ++i) {
      const size_t at = text.find(kPlace, begin);
      if (at != begin && begin < text.size()) prompt.parts.push_back({text.substr(begin, at - begin), nullptr});
      if ((at == std::string::npos) != (i == media.size())) {
        refuse_field(path, format("has %s places %s than its %d pictures", at == std::string::npos ? "fewer" : "more",
                                  kPlace, media.size()));
      }
      if (at == std::string::npos) break;
      begin = at + kPlace.size();
      if (picture_paths_.size() == policy_.media.max_pictures) {
        refuse_field(media_path, format("one request may have at most %d pictures", policy_.media.max_pictures));
      }
      const std::string& data = media[i].get_ref<const std::string&>();
      picture_paths_.push_back(format("%s[%d]", media_path, i));
      const bool is_url = data.starts_with("data:");
      prompt.parts.push_back(
          {"", read_picture(is_url ? data : "data:image/unknown;base64," + data, policy_.media, picture_paths_.back())
                   .image});
    }
    return prompt;
  }

  const RequestPolicy& policy_;
  const Tokenizer& tokenizer_;
  TextGate& texts_;
  const int64_t n_positions_;
  std::vector<std::string> picture_paths_;
};

// What a style keeps of a request.
CompletionRequest without_pictures(CompletionRequest request) {
  for (CompletionPrompt& prompt : request.prompts) prompt.parts.clear();
  return request;
}

class CompletionStyle : public AnswerStyle {
 public:
  CompletionStyle(const CompletionRequest& request, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), request_(without_pictures(request)), offsets_(request.prompts.size() * n_choices()) {}

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
    return request_.echo ? request_.prompts[static_cast<size_t>(index) / n_choices()].text : "";
  }
  static Json choice_of(int index, const std::string& text) {
    return {{"index", index}, {"text", text}, {"finish_reason", nullptr}, {"logprobs", nullptr}};
  }

  const Tokenizer& tokenizer_;
  const CompletionRequest request_;
  std::vector<size_t> offsets_;
};

/// As llama.cpp's own endpoint spells answers.
class LlamaStyle : public AnswerStyle {
 public:
  LlamaStyle(const CompletionRequest& request, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        request_(without_pictures(request)),
        n_tokens_(request.prompts.size() * static_cast<size_t>(request.generation.n_choices)) {}

  Json whole(int index, const RequestResult& result) override {
    const Answer& answer = result.answer;
    Json choice = end_of(index, result);
    choice["content"] = answer.text;
    if (request_.return_tokens) choice["tokens"] = answer.tokens;
    if (request_.generation.logprobs) {
      choice["completion_probabilities"] = chat_logprobs(answer, n_top(), tokenizer_)["content"];
    }
    return request_.response_fields.empty() ? choice : chosen(choice);
  }
  Json first(int) override { return nullptr; }
  Json step(int index, const Session::Step& step) override {
    const bool has_token = step.token.id >= 0 && !tokenizer_.is_end_of_generation(step.token.id);
    if (step.text.empty() && !has_token) return nullptr;
    n_tokens_[static_cast<size_t>(index)] += has_token ? 1 : 0;
    Json piece = {
        {"index", index}, {"content", step.text}, {"tokens", has_token ? Json::array({step.token.id}) : Json::array()},
        {"stop", false},  {"id_slot", -1},        {"tokens_predicted", n_tokens_[static_cast<size_t>(index)]}};
    if (request_.generation.logprobs && has_token) {
      piece["completion_probabilities"] = Json::array({chat_logprob(step.token, n_top(), tokenizer_)});
    }
    return piece;
  }
  std::vector<Json> last(int index, const RequestResult& result) override { return {end_of(index, result)}; }
  Json response(const ResponseHead& head, Json choices, const std::vector<RequestResult>&,
                const std::vector<std::string>& warnings) override {
    for (Json& choice : choices) {
      if (request_.response_fields.empty()) choice["model"] = head.model;
      if (request_.response_fields.empty() && !warnings.empty()) choice["warnings"] = warnings;
    }
    return request_.is_list || choices.size() > 1 ? choices : choices[0];
  }
  Json chunk(const ResponseHead& head, Json choice) override {
    if (choice["stop"] == true) choice["model"] = head.model;
    return choice;
  }
  bool says_done() const override { return false; }

 private:
  int n_top() const { return request_.generation.n_top_logprobs; }

  Json end_of(int index, const RequestResult& result) const {
    const Answer& answer = result.answer;
    const Timings& t = answer.timings;
    const int64_t n_prompt = t.n_prompt_tokens + t.n_cached_tokens;
    const size_t prompt = static_cast<size_t>(index) / static_cast<size_t>(request_.generation.n_choices);
    const bool limit = std::string_view(finish_reason(answer)) == "length";
    const std::string word = stopping_word(answer);
    return {{"index", index},
            {"content", ""},
            {"tokens", Json::array()},
            {"id_slot", -1},
            {"stop", true},
            {"tokens_predicted", t.n_generated_tokens},
            {"tokens_evaluated", n_prompt},
            {"tokens_cached", n_prompt + t.n_generated_tokens},
            {"generation_settings", settings(index)},
            {"prompt", request_.prompts[prompt].text},
            {"has_new_line", answer.text.find('\n') != std::string::npos},
            {"truncated", answer.reason == FinishReason::kContextFull},
            {"stop_type", limit                                        ? "limit"
                          : answer.reason == FinishReason::kStopString ? "word"
                                                                       : "eos"},
            {"stopping_word", word},
            {"timings", timings_of(result)}};
  }

  // What followed the text that is shown.
  std::string stopping_word(const Answer& answer) const {
    if (answer.reason != FinishReason::kStopString) return "";
    const std::string said = tokenizer_.decode(answer.tokens, true);
    for (const std::string& stop : request_.generation.options.stop) {
      if (said.compare(std::min(said.size(), answer.text.size()), stop.size(), stop) == 0) return stop;
    }
    return "";
  }

  Json settings(int index) const {
    const Generation& g = request_.generation;
    const SamplerOptions& s = g.options.sampler;
    return {{"n_predict", g.options.max_tokens},
            {"seed", s.seed + static_cast<uint64_t>(index % g.n_choices)},
            {"temperature", s.temperature},
            {"top_k", s.top_k},
            {"top_p", s.top_p},
            {"min_p", s.min_p},
            {"repeat_penalty", s.repetition_penalty},
            {"repeat_last_n", s.penalty_last_n},
            {"presence_penalty", s.presence_penalty},
            {"frequency_penalty", s.frequency_penalty},
            {"stop", g.options.stop},
            {"n_probs", g.logprobs ? g.n_top_logprobs : 0},
            {"stream", g.stream}};
  }

  // "generation_settings/n_predict" is a member of a member.
  Json chosen(const Json& all) const {
    Json some = Json::object();
    for (const std::string& name : request_.response_fields) {
      const Json* value = &all;
      for (size_t at = 0; value != nullptr && at <= name.size();) {
        const size_t end = std::min(name.find('/', at), name.size());
        const auto found = value->is_object() ? value->find(name.substr(at, end - at)) : value->end();
        value = value->is_object() && found != value->end() ? &*found : nullptr;
        at = end + 1;
      }
      if (value != nullptr) some[name] = *value;
    }
    return some;
  }

  const Tokenizer& tokenizer_;
  const CompletionRequest request_;
  std::vector<int64_t> n_tokens_;  // told so far
};

void read_openai_fields(Fields& body, const RequestPolicy& policy, CompletionRequest& request) {
  Generation& generation = request.generation;
  const Json* const logprobs = body.find("logprobs");
  if (logprobs != nullptr && !(logprobs->is_boolean() && !logprobs->get<bool>())) {
    generation.n_top_logprobs = static_cast<int>(body.integer("logprobs", 0, 20, 0));
    generation.logprobs = true;
  }
  request.echo = body.flag("echo", false);
  if (request.echo && generation.logprobs) refuse_field("echo", "log-probabilities of the prompt are not computed");
  const int64_t best_of = body.integer("best_of", 1, policy.max_choices, generation.n_choices);
  if (best_of != generation.n_choices) refuse_field("best_of", "only the value of n is supported");
  body.refuse({"suffix", "use_beam_search"});
}

void read_llama_fields(Fields& body, CompletionRequest& request) {
  Generation& generation = request.generation;
  generation.n_top_logprobs = static_cast<int>(body.integer("n_probs", 0, 20, 0));
  generation.logprobs = generation.n_top_logprobs > 0;
  request.return_tokens = body.flag("return_tokens", false);
  body.refuse({"post_sampling_probs"});
  const Json* const fields = body.find("response_fields");
  if (fields == nullptr) return;
  const bool is_list = fields->is_array() && fields->size() <= kMostPrompts &&
                       std::all_of(fields->begin(), fields->end(), [](const Json& name) { return name.is_string(); });
  if (!is_list) refuse_field("response_fields", "want an array of names");
  request.response_fields = fields->get<std::vector<std::string>>();
}

}  // namespace

std::vector<TokenId> read_token_ids(const Json& list, const std::string& path, const Tokenizer& tokenizer) {
  if (!list.is_array()) refuse_field(path, "want an array of token ids");
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) ids.push_back(read_token_id(list[i], format("%s[%d]", path, i), tokenizer));
  return ids;
}

void check_positions(int64_t n_tokens, int64_t n_positions) {
  if (n_tokens <= n_positions) return;
  throw api_error(make_error(ErrorCode::kContextFull, "the prompt has at least %d tokens; the context holds %d",
                             n_tokens, n_positions));
}

CompletionRequest read_completion_request(std::string_view text, const RequestPolicy& policy,
                                          const ChatContext& context, CompletionKind kind) {
  const JsonBody parsed(text, policy.values);
  Fields body(parsed.json(), "");
  CompletionRequest request;
  Generation& generation = request.generation;
  generation = read_generation(body, policy, context.tokenizer);
  check_model_name(body, policy, generation.warnings);
  if (kind == CompletionKind::kOpenAi) {
    read_openai_fields(body, policy, request);
  } else {
    read_llama_fields(body, request);
  }
  if (generation.logprobs) generation.options.n_top_logprobs = std::max(1, generation.n_top_logprobs);
  PromptReader prompts(policy, context);
  request.prompts = prompts.read(body, &request.is_list);
  request.picture_paths = prompts.picture_paths();
  if (static_cast<int64_t>(request.prompts.size()) * generation.n_choices > policy.max_choices * 4) {
    refuse_field("prompt", format("prompts and choices together are more than %d answers", policy.max_choices * 4));
  }
  generation.options.constraint = read_answer_format(body, text, context.tokenizer, context.formats);
  body.report_unknown(generation.warnings);
  return request;
}

std::shared_ptr<AnswerStyle> completion_style(const CompletionRequest& request, const Tokenizer& tokenizer,
                                              CompletionKind kind) {
  if (kind == CompletionKind::kLlama) return std::make_shared<LlamaStyle>(request, tokenizer);
  return std::make_shared<CompletionStyle>(request, tokenizer);
}

}  // namespace glimpse::serve
