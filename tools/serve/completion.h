// /v1/completions: prompts that go to the model as they are, without a chat format.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/answer_flow.h"
#include "tools/serve/answer_format.h"
#include "tools/serve/generation.h"

namespace glimpse::serve {

struct CompletionRequest {
  Generation generation;
  std::vector<std::string> prompts;  // n_choices answers to each
  bool echo = false;                 // answers begin with their prompt
};

/// Control tokens in a prompt count. Token ids are taken where they are those of the text that they stand for. Throws
/// ApiError.
CompletionRequest read_completion_request(std::string_view text, const RequestPolicy& policy,
                                          const Tokenizer& tokenizer, FormatCache& formats);

std::shared_ptr<AnswerStyle> completion_style(const CompletionRequest& request, const Tokenizer& tokenizer);

/// A list of token ids as text. Throws ApiError for what is no list of ids of the vocabulary.
std::vector<TokenId> read_token_ids(const Json& list, const std::string& path, const Tokenizer& tokenizer);

}  // namespace glimpse::serve
