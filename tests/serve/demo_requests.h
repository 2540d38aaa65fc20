// The demo model's text, loaded once for all tests of a program, and chat requests as it reads them.
#pragma once

#include <memory>
#include <string_view>

#include "engine/model/model.h"
#include "tools/serve/chat_request.h"
#include "tools/serve/tools_request.h"

namespace glimpse::serve {

inline const Model& demo() {
  static const std::shared_ptr<const Model> model = [] {
    ModelOptions options;
    options.model_path = GLIMPSE_SOURCE_DIR "/models/demo-Q8_0.gguf";
    return Model::load(options).value();
  }();
  return *model;
}

inline ChatRequest read_text(std::string_view body) {
  RequestPolicy policy;
  policy.model_name = "demo";
  ChatStyle style;
  style.tools = ChatStyle::Tools::kJson;
  style.thinking = ChatStyle::Thinking::kSinceQuestion;
  static FormatCache formats;
  static TextGate texts;
  return read_chat_request(body, policy, {demo().tokenizer(), style, formats, texts});
}
inline ChatRequest read(const Json& body) {
  return read_text(dump(body));
}

}  // namespace glimpse::serve
