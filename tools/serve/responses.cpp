#include "tools/serve/responses.h"

namespace glimpse::serve {
namespace {

double per_second(int64_t n, double ms) {
  return ms > 0 ? static_cast<double>(n) * 1000.0 / ms : 0;
}

Json bytes_of(std::string_view text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json token_entry(TokenId id, float logprob, const Tokenizer& tokenizer) {
  const std::string_view text = tokenizer.token_bytes(id, true);
  return {{"token", std::string(text)}, {"id", id}, {"logprob", logprob}, {"bytes", bytes_of(text)}};
}

// The object of a stream's parts: only chat has one of its own.
std::string chunk_object(const std::string& object) {
  return object == "chat.completion" ? "chat.completion.chunk" : object;
}

Json head_of(const ResponseHead& head, const std::string& object) {
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", "b0-glimpse"}};
}

}  // namespace

const char* finish_reason(const Answer& answer) {
  return answer.reason == FinishReason::kStop || answer.reason == FinishReason::kStopString ? "stop" : "length";
}

Json usage_of(const std::vector<RequestResult>& results, size_t n_choices) {
  int64_t n_prompt = 0, n_cached = 0, n_image = 0, n_generated = 0;
  for (size_t begin = 0; begin < results.size(); begin += n_choices) {
    Timings most;
    for (size_t i = begin; i < std::min(begin + n_choices, results.size()); ++i) {
      const Timings& t = results[i].answer.timings;
      most.n_prompt_tokens = std::max(most.n_prompt_tokens, t.n_prompt_tokens + t.n_cached_tokens);
      most.n_cached_tokens = std::max(most.n_cached_tokens, t.n_cached_tokens);
      most.n_image_tokens = std::max(most.n_image_tokens, t.n_image_tokens);
      n_generated += t.n_generated_tokens;
    }
    n_prompt += most.n_prompt_tokens;
    n_cached += most.n_cached_tokens;
    n_image += most.n_image_tokens;
  }
  return {{"prompt_tokens", n_prompt},
          {"completion_tokens", n_generated},
          {"total_tokens", n_prompt + n_generated},
          {"prompt_tokens_details", {{"cached_tokens", n_cached}, {"image_tokens", n_image}}}};
}

Json timings_of(const RequestResult& result) {
  const Timings& t = result.answer.timings;
  return {{"queued_ms", result.queued_ms},
          {"first_token_ms", result.first_token_ms},
          {"total_ms", result.total_ms},
          {"image_decode_ms", t.image_decode},
          {"image_resize_ms", t.image_resize},
          {"image_encode_ms", t.image_encode},
          {"image_n", t.n_image_tokens},
          {"images_cached", result.n_cached_images},
          {"cache_n", t.n_cached_tokens},
          {"prompt_n", t.n_prompt_tokens},
          {"prompt_ms", t.prefill},
          {"prompt_per_second", per_second(t.n_prompt_tokens, t.prefill)},
          {"predicted_n", t.n_generated_tokens},
          {"predicted_ms", t.decode},
          {"predicted_per_second", per_second(t.n_generated_tokens - 1, t.decode)}};
}

Json shapes_of(const Answer& answer, const Model& model, const std::vector<ShapePicture>& pictures) {
  std::string said;
  for (const TokenId id : answer.tokens) said += model.tokenizer().token_bytes(id, true);
  const bool counts_pixels = model.has_vision() && model.vision().family() == VisionConfig::Family::kQwen25;
  Json list = Json::array();
  for (const Shape& shape :
       read_shapes(said, counts_pixels ? ShapeUnit::kResizedPixels : ShapeUnit::kThousandths).shapes) {
    static const char* const kinds[] = {"box", "point", "polygon"};
    Json told = {{"kind", kinds[static_cast<int>(shape.kind)]}, {"label", shape.label}, {"picture", nullptr}};
    if (const int number = picture_of(shape, pictures.size()); number > 0) {
      const ShapePicture& picture = pictures[static_cast<size_t>(number) - 1];
      const auto width = static_cast<double>(picture.width), height = static_cast<double>(picture.height);
      told["picture"] = number;
      for (const ShapePoint& point : pixels_of(shape, picture)) {
        told["pixels"].push_back({point.x, point.y});
        told["thousandths"].push_back({1000 * point.x / width, 1000 * point.y / height});
      }
    }
    list.push_back(std::move(told));
  }
  return list;
}

Json chat_logprob(const SampledToken& token, int n_top, const Tokenizer& tokenizer) {
  Json entry = token_entry(token.id, token.logprob, tokenizer);
  Json top = Json::array();
  for (size_t i = 0; i < std::min(static_cast<size_t>(n_top), token.top.size()); ++i) {
    top.push_back(token_entry(token.top[i].id, token.top[i].logprob, tokenizer));
  }
  entry["top_logprobs"] = std::move(top);
  return entry;
}

std::vector<SampledToken> told_tokens(const Answer& answer, const Tokenizer& tokenizer) {
  std::vector<SampledToken> tokens = answer.logprobs;
  if (!tokens.empty() && tokenizer.is_end_of_generation(tokens.back().id)) tokens.pop_back();
  return tokens;
}

Json chat_logprobs(const Answer& answer, int n_top, const Tokenizer& tokenizer) {
  Json content = Json::array();
  for (const SampledToken& token : told_tokens(answer, tokenizer)) {
    content.push_back(chat_logprob(token, n_top, tokenizer));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json completion_logprobs(const std::vector<SampledToken>& tokens, int n_top, const Tokenizer& tokenizer,
                         size_t& offset) {
  Json names = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const SampledToken& token : tokens) {
    const std::string_view text = tokenizer.token_bytes(token.id, true);
    names.push_back(std::string(text));
    values.push_back(token.logprob);
    offsets.push_back(offset);
    for (const char c : text) offset += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;  // of characters
    Json top = Json::object();
    for (size_t i = 0; i < std::min(static_cast<size_t>(n_top), token.top.size()); ++i) {
      top[std::string(tokenizer.token_bytes(token.top[i].id, true))] = token.top[i].logprob;
    }
    tops.push_back(std::move(top));
  }
  return {{"tokens", names}, {"token_logprobs", values}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

Json response_of(const ResponseHead& head, Json choices, const std::vector<RequestResult>& results,
                 const std::vector<std::string>& warnings) {
  Json response = head_of(head, head.object);
  response["choices"] = std::move(choices);
  response["usage"] = usage_of(results, head.n_choices);
  if (!results.empty()) response["timings"] = timings_of(results.front());
  if (!warnings.empty()) response["warnings"] = warnings;
  return response;
}

Json chunk_of(const ResponseHead& head, Json choices) {
  Json chunk = head_of(head, chunk_object(head.object));
  chunk["choices"] = std::move(choices);
  return chunk;
}

std::string event_of(const Json& json) {
  std::string event = "data: ";
  event += dump(json);
  event += "\n\n";
  return event;
}

}  // namespace glimpse::serve
