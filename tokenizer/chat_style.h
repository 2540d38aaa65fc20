// What a file's chat template renders, as far as those of the Qwen family differ.
#pragma once

#include <string>
#include <string_view>

namespace glimpse {

/// Sources: the templates (tokenizer_config.json, chat_template.jinja) of Qwen2, Qwen2-VL, Qwen2.5, Qwen2.5-VL, QwQ,
/// Qwen3 (hybrid, Instruct, Thinking), Qwen3-VL (Instruct, Thinking).
struct ChatStyle {
  enum class Tools {
    kNone,  // the template knows no tools
    kJson,  // definitions as JSON lines in the system turn, calls as JSON in <tool_call>
    kXml,   // Qwen3-Coder, Qwen3.5: a form that glimpse does not render
  };
  enum class Thinking {
    kNone,           // reasoning is text like any other
    kLastMessage,    // QwQ: only the last message keeps its reasoning
    kSinceQuestion,  // Qwen3: answers since the user's last question keep it
  };
  Tools tools = Tools::kNone;
  bool tools_after_blank = false;  // the part about tools stands behind a blank line also without a system text
  bool quotes_arguments = false;   // of an earlier call that are a text and no JSON: a JSON string, not as they stand
  Thinking thinking = Thinking::kNone;
  bool opens_thinking = false;     // the generation prompt ends with <think>
  bool can_skip_thinking = false;  // ... or, when asked to, with an empty <think></think>
};

struct ChatFormat {
  /// What was recognised, for people: "ChatML, tools as JSON, thinking that can be switched off"; of a template that is
  /// not ChatML the family it belongs to: "Llama 3".
  std::string name;
  bool is_chatml = true;  // false: ChatML is used all the same
  ChatStyle style;
  std::string default_system;  // the first turn where the caller gives none; empty: nothing
};

/// chat_template: tokenizer.chat_template. It is not interpreted: what tells these templates apart are the literal
/// texts that they render, which are looked for. Never fails; of nothing (files of Ollama have none) thinks says
/// whether it is Qwen3's format or Qwen2-VL's.
ChatFormat recognise_chat_format(std::string_view chat_template, bool thinks);

/// Default system prompt as a template has it: looks for the literal; "" when it has none (Qwen3 style).
std::string default_system_prompt(std::string_view chat_template);

}  // namespace glimpse
