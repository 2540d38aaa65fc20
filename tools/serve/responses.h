// Answers of the engine in the shapes of OpenAI's interface.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/serve/engine.h"
#include "tokenizer/grounding.h"
#include "tools/serve/generation.h"
#include "tools/serve/json_body.h"

namespace glimpse::serve {

/// What every object and chunk of one response has in common.
struct ResponseHead {
  std::string id;
  std::string object;   // "chat.completion", "text_completion"
  int64_t created = 0;  // seconds since 1970
  std::string model;
  size_t n_choices = 1;  // of each prompt
};

/// "stop" or "length".
const char* finish_reason(const Answer& answer);

/// Sums over the choices; a prompt counts once, however many choices it has: n_choices each, one after another.
Json usage_of(const std::vector<RequestResult>& results, size_t n_choices);
/// Milliseconds and speeds of one choice, under the names of llama.cpp where they mean the same.
Json timings_of(const RequestResult& result);
/// What an answer points at: kind, label, the number of its picture (or null) and its points, in pixels of that picture
/// and in thousandths of its width and height.
Json shapes_of(const Answer& answer, const Model& model, const std::vector<ShapePicture>& pictures);

/// One token's entry of choices[].logprobs.content.
Json chat_logprob(const SampledToken& token, int n_top, const Tokenizer& tokenizer);
/// The same of a whole answer, without the token that ended it.
Json chat_logprobs(const Answer& answer, int n_top, const Tokenizer& tokenizer);
/// logprobs of /v1/completions. offset: characters before the first token.
Json completion_logprobs(const std::vector<SampledToken>& tokens, int n_top, const Tokenizer& tokenizer,
                         size_t& offset);
/// The tokens of an answer, without the one that ended it.
std::vector<SampledToken> told_tokens(const Answer& answer, const Tokenizer& tokenizer);

/// The whole response. warnings: of the body; told only when there are some.
Json response_of(const ResponseHead& head, Json choices, const std::vector<RequestResult>& results,
                 const std::vector<std::string>& warnings);
/// A chunk of a stream: its only choice, or none.
Json chunk_of(const ResponseHead& head, Json choices);
/// "data: ...\n\n"
std::string event_of(const Json& json);

}  // namespace glimpse::serve
