// The body of /v1/chat/completions as a request of the engine.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/preprocess/preprocess.h"
#include "tokenizer/chat.h"
#include "tools/serve/answer_format.h"
#include "tools/serve/generation.h"
#include "tools/serve/text_gate.h"
#include "tools/serve/tools_request.h"

namespace glimpse::serve {

struct ChatRequest {
  Generation generation;
  std::vector<RequestMessage> messages;
  PromptOptions prompt;
  ToolChoice tools;
  std::vector<ImageSize> pictures;         // their sizes, upright, in the order of the messages
  std::vector<std::string> picture_paths;  // of their fields
};

/// What a body is read for.
struct ChatContext {
  const Tokenizer& tokenizer;
  const ChatStyle& style;  // of the model's chat template
  FormatCache& formats;
  TextGate& texts;
  VisionConfig::Family family = VisionConfig::Family::kQwen2;  // of its vision encoder
  int64_t n_positions = INT64_MAX;                             // that a request may have
};

/// text: the body. Throws ApiError, which names the field, and for a picture its message and part.
ChatRequest read_chat_request(std::string_view text, const RequestPolicy& policy, const ChatContext& context);

}  // namespace glimpse::serve
