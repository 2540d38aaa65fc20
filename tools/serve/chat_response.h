// Choices of /v1/chat/completions.
#pragma once

#include <memory>

#include "tools/serve/answer_flow.h"
#include "tools/serve/chat_request.h"

namespace glimpse::serve {

/// pictures: the request's. id: makes those of tool calls.
std::shared_ptr<AnswerStyle> chat_style(const ChatRequest& request, const Model& model,
                                        std::vector<ShapePicture> pictures, const std::string& id);

}  // namespace glimpse::serve
