// /v1/completions: prompts that go to the model as they are, without a chat format.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/answer_flow.h"
#include "tools/serve/chat_request.h"

namespace glimpse::serve {

struct CompletionPrompt {
  std::string text;                // "<__media__>" where a picture is
  std::vector<RequestPart> parts;  // the same, with the pictures
};

struct CompletionRequest {
  Generation generation;
  std::vector<CompletionPrompt> prompts;   // n_choices answers to each
  std::vector<std::string> picture_paths;  // of all prompts
  bool echo = false;                       // answers begin with their prompt
  // Of llama.cpp's own endpoint.
  bool is_list = false;  // the prompts came as a list: so do the answers
  bool return_tokens = false;
  std::vector<std::string> response_fields;  // of what a response has; empty: all
};

/// Whose shapes are meant: OpenAI's, or those of llama.cpp's own endpoint.
enum class CompletionKind { kOpenAi, kLlama };

/// Control tokens in a prompt count. A prompt is a text, token ids (taken where they are those of the text that they
/// stand for) with texts between them, or {"prompt_string", "multimodal_data"}: pictures in base64 for the places in
/// the text. Throws ApiError, also for what has more tokens than there may be positions.
CompletionRequest read_completion_request(std::string_view text, const RequestPolicy& policy,
                                          const ChatContext& context, CompletionKind kind);

std::shared_ptr<AnswerStyle> completion_style(const CompletionRequest& request, const Tokenizer& tokenizer,
                                              CompletionKind kind);

/// Throws ApiError for what is no list of ids of the vocabulary.
std::vector<TokenId> read_token_ids(const Json& list, const std::string& path, const Tokenizer& tokenizer);
/// Throws ApiError (the context is exceeded, with both numbers) for a prompt of at least n_tokens.
void check_positions(int64_t n_tokens, int64_t n_positions);

}  // namespace glimpse::serve
