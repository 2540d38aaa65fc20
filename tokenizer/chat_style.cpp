#include "tokenizer/chat_style.h"

#include <utility>

namespace glimpse {
namespace {

constexpr std::string_view kImStart = "<|im_start|>", kImEnd = "<|im_end|>";
// What the part about tools begins with where definitions and calls are JSON.
constexpr std::string_view kJsonTools =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n<tools>";

// What other families' templates have and Qwen's do not.
constexpr std::pair<std::string_view, const char*> kOtherFamilies[] = {
    {"<|start_header_id|>", "Llama 3"},
    {"<|header_start|>", "Llama 4"},
    {"<start_of_turn>", "Gemma"},
    {"<\xEF\xBD\x9CUser\xEF\xBD\x9C>", "DeepSeek"},
    {"<|START_OF_TURN_TOKEN|>", "Command R"},
    {"<|channel|>", "gpt-oss"},
    {"[gMASK]", "GLM"},
    {"<|start_of_role|>", "Granite"},
    {"[INST]", "Mistral"},
    {"<|user|>", "Phi"},
};

/// The characters behind a backslash in a Jinja string.
char unescape(char c) {
  return c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
}

/// Reads a literal of a template from `begin` up to "<|im_end|>". False when it does not get there: a string that ends,
/// or a Jinja tag.
/// quote: the quote of the Jinja string around it, or 0 outside of strings.
bool read_literal(std::string_view source, size_t begin, char quote, std::string& literal) {
  literal.clear();
  for (size_t i = begin; i < source.size(); ++i) {
    const std::string_view rest = source.substr(i);
    if (rest.starts_with(kImEnd)) return true;
    if (rest.starts_with(kImStart)) return false;  // another opening; also keeps the search linear
    if (quote != 0) {
      if (source[i] == quote) return false;
      if (source[i] == '\\' && i + 1 < source.size()) {
        literal.push_back(unescape(source[++i]));
        continue;
      }
    } else if (rest.starts_with("{{") || rest.starts_with("{%")) {
      return false;
    }
    literal.push_back(source[i]);
  }
  return false;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Line ends and quotes of Jinja strings, written with a backslash, as they will be rendered.
std::string unescaped(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    const char next = source[i] == '\\' && i + 1 < source.size() ? source[i + 1] : '\0';
    const bool is_escape = next == 'n' || next == '"' || next == '\'';
    text += is_escape ? unescape(next) : source[i];
    if (is_escape) ++i;
  }
  return text;
}

ChatStyle read_style(std::string_view text) {
  ChatStyle style;
  if (has(text, kJsonTools)) {
    style.tools = ChatStyle::Tools::kJson;
    style.quotes_arguments = !has(text, "arguments is string");
    style.tools_after_blank = has(text, std::string("\n\n").append(kJsonTools));
  } else if (has(text, "<function=")) {
    style.tools = ChatStyle::Tools::kXml;
  }
  // The generation prompt is what comes last.
  const size_t tail = text.rfind("add_generation_prompt");
  std::string prompt(tail == std::string_view::npos ? std::string_view() : text.substr(tail));
  constexpr std::string_view kEmpty = "<think>\n\n</think>\n\n";
  if (const size_t at = prompt.find(kEmpty); at != std::string::npos) {
    style.can_skip_thinking = true;
    prompt.erase(at, kEmpty.size());
  }
  style.opens_thinking = has(prompt, "<think>");
  if (has(text, "last_query_index")) {
    style.thinking = ChatStyle::Thinking::kSinceQuestion;
  } else if (has(text, "split('</think>')") || has(text, "split(\"</think>\")")) {
    style.thinking = ChatStyle::Thinking::kLastMessage;
  }
  return style;
}

std::string describe(const ChatFormat& format) {
  using Thinking = ChatStyle::Thinking;
  const ChatStyle& style = format.style;
  std::string text = "ChatML";
  text += style.tools == ChatStyle::Tools::kJson  ? ", tools as JSON"
          : style.tools == ChatStyle::Tools::kXml ? ", tools as XML (not supported)"
                                                  : ", no tools";
  const bool thinks = style.thinking != Thinking::kNone || style.opens_thinking || style.can_skip_thinking;
  text += !thinks ? ", no thinking" : style.can_skip_thinking ? ", thinking that can be switched off" : ", thinking";
  return text + (format.default_system.empty() ? ", no default system text" : ", a default system text");
}

}  // namespace

std::string default_system_prompt(std::string_view source) {
  const std::string opening = std::string(kImStart) + "system";
  std::string literal;
  for (size_t at = source.find(opening); at != std::string_view::npos; at = source.find(opening, at + 1)) {
    size_t begin = at + opening.size();
    // Inside a Jinja string the line end may be written as one character or as two.
    const char before = at > 0 ? source[at - 1] : '\0';
    const char quote = before == '\'' || before == '"' ? before : '\0';
    if (source.substr(begin).starts_with('\n')) {
      begin += 1;
    } else if (source.substr(begin).starts_with("\\n")) {
      begin += 2;
    } else {
      continue;
    }
    if (read_literal(source, begin, quote, literal) && !literal.empty()) return literal;
  }
  return "";
}

ChatFormat recognise_chat_format(std::string_view chat_template, bool thinks) {
  ChatFormat format;
  if (chat_template.empty()) {
    if (thinks) {
      format.style = {
          .tools = ChatStyle::Tools::kJson, .thinking = ChatStyle::Thinking::kSinceQuestion, .can_skip_thinking = true};
    } else {
      format.default_system = "You are a helpful assistant.";
    }
    format.name = "none in the file; " + describe(format);
    return format;
  }
  if (!has(chat_template, kImStart) || !has(chat_template, kImEnd)) {
    format.is_chatml = false;
    format.name = "an unknown family";
    for (const auto& [mark, family] : kOtherFamilies) {
      if (!has(chat_template, mark)) continue;
      format.name = family;
      break;
    }
    return format;
  }
  format.style = read_style(unescaped(chat_template));
  format.default_system = default_system_prompt(chat_template);
  format.name = describe(format);
  return format;
}

}  // namespace glimpse
