// The body of /v1/chat/completions as a request of the engine.
#pragma once

#include <string>
#include <vector>

#include "tools/serve/generation.h"

namespace glimpse::serve {

struct ChatRequest {
  Generation generation;
  std::vector<RequestMessage> messages;
  size_t n_pictures = 0;
};

/// Throws ApiError, which names the field, and for a picture its message and part.
ChatRequest read_chat_request(const Json& body, const RequestPolicy& policy);

}  // namespace glimpse::serve
