#include "tokenizer/chat.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <tuple>
#include <utility>

#include "tokenizer/answer_parts.h"
#include "tokenizer/json.h"
#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool"};
constexpr std::string_view kImStart = "<|im_start|>", kImEnd = "<|im_end|>";
constexpr std::string_view kImagePad = "<|image_pad|>", kVideoPad = "<|video_pad|>";
constexpr std::string_view kThink = "<think>", kEndThink = "</think>";
constexpr std::string_view kMarkup[] = {kThink,         kEndThink,         "<tool_call>",
                                        "</tool_call>", "<tool_response>", "</tool_response>"};
// The part about tools of Qwen2.5's and Qwen3's templates, before and behind the definitions.
constexpr std::string_view kToolsHead =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n<tools>";
constexpr std::string_view kToolsTail =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
    "<args-json-object>}\n</tool_call>";
constexpr int64_t kMaxPads = int64_t{1} << 24;  // far beyond any context; keeps the ids below 64 MB

bool has_visual(const ChatMessage& message) {
  return std::any_of(message.parts.begin(), message.parts.end(),
                     [](const ChatPart& part) { return part.kind != ChatPart::Kind::kText; });
}

std::string text_of(const ChatMessage& message) {
  std::string text;
  for (const ChatPart& part : message.parts) {
    if (part.kind == ChatPart::Kind::kText) text += part.text;
  }
  return text;
}

/// The user's last message that is not, as text, a tool's result.
std::optional<size_t> last_question(const std::vector<ChatMessage>& messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    if (messages[i].role != "user") continue;
    const std::string text = text_of(messages[i]);
    const bool is_result = text.starts_with("<tool_response>") && text.ends_with("</tool_response>");
    if (has_visual(messages[i]) || !is_result) return i;
  }
  return std::nullopt;
}

// Where the calls at the end of an answer begin: three lines each, as models and join_answer() write them.
size_t begin_of_calls(std::string_view said) {
  constexpr std::string_view kCall = "<tool_call>", kEndCall = "\n</tool_call>";
  for (size_t end = said.size();;) {
    std::string_view rest = said.substr(0, end);
    if (!rest.ends_with(kEndCall)) return end;
    rest.remove_suffix(kEndCall.size());
    const size_t line = rest.rfind('\n');
    if (line == std::string_view::npos || !rest.substr(line + 1).starts_with('{')) return end;
    rest = rest.substr(0, line);
    if (!rest.ends_with(kCall)) return end;
    rest.remove_suffix(kCall.size());
    if (rest.ends_with('\n')) rest.remove_suffix(1);
    end = rest.size();
  }
}

bool skips_thinking(const std::optional<bool>& enable_thinking) {
  return enable_thinking.has_value() && !*enable_thinking;
}

// "<0.5 seconds>", whatever the locale's decimal point is.
std::string seconds_text(double seconds) {
  char digits[400];
  const auto end = std::to_chars(digits, digits + sizeof digits, seconds, std::chars_format::fixed, 1).ptr;
  std::string text = "<";
  text.append(digits, end).append(" seconds>");
  return text;
}

/// Writes the rendered template as ids. Text gathers until the next control token, because the words of the template
/// and those of the user share fragments: "user\n" and a message that begins with "\n" make one "\n\n".
class ChatWriter {
 public:
  /// raw: control tokens in a text are recognised.
  ChatWriter(const Tokenizer& tokenizer, const ChatOptions& options, bool raw)
      : tokenizer_(tokenizer),
        options_(options),
        text_options_{.parse_special = raw, .parse_markup = raw, .normalize_nfc = options.normalize_nfc} {}

  void text(std::string_view text) { text_.append(text); }

  /// Words of the template, of which those that part an answer are tokens where the vocabulary has them.
  Status template_text(std::string_view words) {
    while (!words.empty()) {
      size_t at = words.size();
      std::string_view first;
      for (const std::string_view name : kMarkup) {
        if (const size_t found = words.find(name); found < at) std::tie(at, first) = std::pair(found, name);
      }
      text(words.substr(0, at));
      words.remove_prefix(at + first.size());
      const TokenId id = first.empty() ? -1 : tokenizer_.find(first);
      if (id < 0) {
        text(first);
        continue;
      }
      GLIMPSE_TRY(flush());
      chat_.ids.push_back(id);
    }
    return {};
  }

  Status control(std::string_view name) {
    const TokenId id = tokenizer_.find(name);
    if (id < 0 || tokenizer_.type(id) != TokenType::kControl) {
      return make_error(ErrorCode::kUnsupported, "the vocabulary has no token %s", name);
    }
    GLIMPSE_TRY(flush());
    chat_.ids.push_back(id);
    return {};
  }

  /// The start of a conversation: the system text, the caller's or the template's own, and what tools there are.
  Status start(const std::vector<ChatMessage>& messages) {
    const bool given = messages[0].role == "system";
    if (options_.tools.empty()) {
      if (given || options_.default_system.empty()) return {};
      GLIMPSE_TRY(open("system"));
      text(options_.default_system);
      return close();
    }
    if (options_.style.tools != ChatStyle::Tools::kJson) {
      return make_error(ErrorCode::kUnsupported, "tools are given, but the model's chat template %s",
                        options_.style.tools == ChatStyle::Tools::kXml ? "writes them as XML, which is not supported"
                                                                       : "has no place for them");
    }
    GLIMPSE_TRY(open("system"));
    if (given) GLIMPSE_TRY(parts(messages[0].parts, "the system's text"));
    if (!given) text(options_.default_system);
    const bool has_text = given || !options_.default_system.empty();
    text(has_text || options_.style.tools_after_blank ? "\n\n" : "");
    GLIMPSE_TRY(template_text(kToolsHead));
    for (size_t i = 0; i < options_.tools.size(); ++i) {
      Result<JsonValue> tool = parse_json(options_.tools[i]);
      if (!tool.ok()) return with_context(tool.error(), format("tool %d", i + 1));
      if (tool.value().kind != JsonValue::Kind::kObject) {
        return make_error(ErrorCode::kInvalidArgument, "tool %d: want a JSON object", i + 1);
      }
      const std::string definition = to_python_json(tool.value());
      GLIMPSE_TRY(check_prompt_text(definition, format("tool %d", i + 1)));
      text("\n");
      text(definition);
    }
    GLIMPSE_TRY(template_text(kToolsTail));
    return close();
  }

  /// n_done: messages that start() has written.
  Status messages(const std::vector<ChatMessage>& messages, size_t n_done) {
    const size_t question = last_question(messages).value_or(messages.size());
    for (size_t i = n_done; i < messages.size(); ++i) {
      const ChatMessage& m = messages[i];
      if (m.role == "tool") {
        const bool first = i == 0 || messages[i - 1].role != "tool";
        const bool last = i + 1 == messages.size() || messages[i + 1].role != "tool";
        GLIMPSE_TRY(tool_result(m, first, last));
      } else if (m.role == "assistant" && options_.style.thinking != ChatStyle::Thinking::kNone && !has_visual(m)) {
        GLIMPSE_TRY(answer(m, i > question, i + 1 == messages.size()));
      } else {
        GLIMPSE_TRY(message(m));
      }
    }
    return {};
  }

  /// what: names the texts in an error.
  Status parts(const std::vector<ChatPart>& parts, const std::string& what) {
    size_t n_bytes = 0;
    for (const ChatPart& part : parts) {
      if (part.kind == ChatPart::Kind::kText) {
        GLIMPSE_TRY(check_prompt_text(part.text, what, n_bytes));
        n_bytes += part.text.size();
        text(part.text);
      } else {
        GLIMPSE_TRY(visual(part));
      }
    }
    return {};
  }

  Status open(std::string_view role) {
    GLIMPSE_TRY(control(kImStart));
    text(role);
    text("\n");
    return {};
  }

  Status close() {
    GLIMPSE_TRY(control(kImEnd));
    text_options_.parse_markup = text_options_.parse_special;
    text("\n");
    return {};
  }

  Status generation_prompt() {
    const bool skip = skips_thinking(options_.enable_thinking);
    GLIMPSE_TRY(open("assistant"));
    if (skip && options_.style.can_skip_thinking) return template_text("<think>\n\n</think>\n\n");
    if (!options_.style.opens_thinking) return {};
    if (skip) return make_error(ErrorCode::kUnsupported, "the model's chat template has no way not to think");
    chat_.thinking_open = true;
    return template_text("<think>\n");
  }

  Result<TokenizedChat> finish() {
    GLIMPSE_TRY(flush());
    return std::move(chat_);
  }

 private:
  Status message(const ChatMessage& message) {
    if (std::find(std::begin(kRoles), std::end(kRoles), message.role) == std::end(kRoles)) {
      return make_error(ErrorCode::kInvalidArgument, "role '%.40s': known are system, user, assistant and tool",
                        message.role);
    }
    GLIMPSE_TRY(open(message.role));
    text_options_.parse_markup = message.role == "assistant";
    GLIMPSE_TRY(parts(message.parts, "the " + message.role + "'s text"));
    return close();
  }

  // Several results in a row are one turn of the user's.
  Status tool_result(const ChatMessage& message, bool first, bool last) {
    if (options_.style.tools != ChatStyle::Tools::kJson) {
      return make_error(ErrorCode::kUnsupported, "a tool's result is given, but the model's chat template has no %s",
                        "place for it that is supported");
    }
    if (first) {
      GLIMPSE_TRY(control(kImStart));
      text("user");
    }
    GLIMPSE_TRY(template_text("\n<tool_response>\n"));
    GLIMPSE_TRY(parts(message.parts, "the tool's text"));
    GLIMPSE_TRY(template_text("\n</tool_response>"));
    return last ? close() : Status();
  }

  // An answer whose reasoning is kept or left out, as the template has it.
  Status answer(const ChatMessage& message, bool since_question, bool last) {
    const std::string said = text_of(message);
    GLIMPSE_TRY(check_prompt_text(said, "the assistant's text"));
    std::string_view content = said, reasoning;
    const bool shows_reasoning = options_.style.thinking == ChatStyle::Thinking::kSinceQuestion;
    const auto apart = shows_reasoning && message.parts.size() > 1 ? reasoning_of_block(message.parts[0].text)
                                                                   : std::optional<std::string_view>();
    if (apart) {
      reasoning = *apart;
      content.remove_prefix(message.parts[0].text.size());
    } else if (const auto parted = part_text(content.substr(0, begin_of_calls(content)))) {
      reasoning = parted->reasoning;
      content.remove_prefix(static_cast<size_t>(parted->content.data() - content.data()));
      trim_line_ends(content, true, false);
    }
    GLIMPSE_TRY(open("assistant"));
    text_options_.parse_markup = true;
    if (!shows_reasoning) {
      trim_line_ends(content, true, false);
      text(last ? std::string_view(said) : content);
      return close();
    }
    if (since_question && (last || !reasoning.empty())) {
      GLIMPSE_TRY(template_text("<think>\n"));
      trim_line_ends(reasoning, true, true);
      text(reasoning);
      GLIMPSE_TRY(template_text("\n</think>\n\n"));
      // Those of the content alone: one that parts it from calls stays.
      const size_t n_content = begin_of_calls(content);
      content.remove_prefix(std::min(content.find_first_not_of('\n'), n_content));
    }
    text(content);
    return close();
  }

  static void trim_line_ends(std::string_view& text, bool at_begin, bool at_end) {
    while (at_begin && text.starts_with('\n')) text.remove_prefix(1);
    while (at_end && text.ends_with('\n')) text.remove_suffix(1);
  }

  Status flush() {
    GLIMPSE_ASSIGN(const std::vector<TokenId> ids, tokenizer_.encode(text_, text_options_));
    if (text_options_.parse_special) {
      for (const std::string_view name : {kImagePad, kVideoPad}) {
        const TokenId pad = tokenizer_.find(name);
        if (pad < 0 || std::find(ids.begin(), ids.end(), pad) == ids.end()) continue;
        return make_error(ErrorCode::kInvalidArgument, "%s stands in the text, but no picture has its place there",
                          name);
      }
    }
    chat_.ids.insert(chat_.ids.end(), ids.begin(), ids.end());
    text_.clear();
    return {};
  }

  Status visual(const ChatPart& part) {
    const bool is_video = part.kind == ChatPart::Kind::kVideo;
    const char* const kind = is_video ? "video" : "image";
    int64_t& count = is_video ? n_videos_ : n_images_;
    ++count;
    if (part.n_tokens <= 0) {
      return make_error(ErrorCode::kInvalidArgument, "%s %d has %d tokens", kind, count, part.n_tokens);
    }
    if (part.n_tokens > kMaxPads - n_pads_) {
      return make_error(ErrorCode::kTooLarge, "%s %d has %d tokens; all pictures together may have %d", kind, count,
                        part.n_tokens, kMaxPads);
    }
    n_pads_ += part.n_tokens;
    const auto n_blocks = static_cast<int64_t>(part.slice_seconds.size());
    if (n_blocks > part.n_tokens || (n_blocks > 0 && part.n_tokens % n_blocks != 0)) {
      return make_error(ErrorCode::kInvalidArgument, "%s %d has %d tokens in %d slices", kind, count, part.n_tokens,
                        n_blocks);
    }
    for (int64_t i = 0; i < n_blocks; ++i) {
      text(seconds_text(part.slice_seconds[static_cast<size_t>(i)]));
      GLIMPSE_TRY(block(is_video, part.n_tokens / n_blocks));
      chat_.visuals.back().slice = static_cast<int>(i);
      chat_.visuals.back().is_slice = true;
    }
    if (n_blocks == 0) GLIMPSE_TRY(block(is_video, part.n_tokens));
    ++n_parts_;
    return {};
  }

  Status block(bool is_video, int64_t n_tokens) {
    GLIMPSE_TRY(control("<|vision_start|>"));
    GLIMPSE_TRY(control(is_video ? kVideoPad : kImagePad));
    chat_.visuals.push_back(
        {.position = static_cast<int64_t>(chat_.ids.size()) - 1, .n_tokens = n_tokens, .part_index = n_parts_});
    const TokenId pad = chat_.ids.back();
    chat_.ids.insert(chat_.ids.end(), static_cast<size_t>(n_tokens) - 1, pad);
    return control("<|vision_end|>");
  }

  const Tokenizer& tokenizer_;
  const ChatOptions& options_;
  TokenizeOptions text_options_;
  int64_t n_images_ = 0, n_videos_ = 0, n_pads_ = 0;
  int n_parts_ = 0;   // visual ones
  std::string text_;  // since the last control token
  TokenizedChat chat_;
};

}  // namespace

ChatOptions chat_options(const ChatFormat& format, const PromptOptions& prompt) {
  ChatOptions options;
  options.default_system = format.default_system;
  options.style = format.style;
  options.tools = prompt.tools;
  options.enable_thinking = prompt.enable_thinking;
  return options;
}

bool opens_thinking(const ChatStyle& style, const PromptOptions& prompt) {
  return style.opens_thinking && !skips_thinking(prompt.enable_thinking);
}

bool ends_thinking(const ChatStyle& style, const std::vector<ChatMessage>& messages) {
  if (style.thinking == ChatStyle::Thinking::kSinceQuestion) return last_question(messages).has_value();
  return style.thinking == ChatStyle::Thinking::kLastMessage && !messages.empty();
}

Status check_prompt_text(std::string_view text, std::string_view what, size_t n_before) {
  const size_t bad = find_invalid_utf8(text), zero = text.find('\0');
  const size_t at = std::min(bad, zero);
  if (at == std::string_view::npos) return {};
  if (at == zero) {
    return make_error(ErrorCode::kInvalidArgument, "%s has a zero byte at byte %d: no text has one", what,
                      n_before + at);
  }
  return make_error(ErrorCode::kInvalidArgument, "%s is not valid UTF-8 at byte %d (0x%02x)", what, n_before + at,
                    static_cast<unsigned char>(text[at]));
}

Result<TokenizedChat> tokenize_chat(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                    const ChatOptions& options) {
  ChatWriter writer(tokenizer, options, false);
  if (!messages.empty()) GLIMPSE_TRY(writer.start(messages));
  const bool system_is_written = !options.tools.empty() && !messages.empty() && messages[0].role == "system";
  GLIMPSE_TRY(writer.messages(messages, system_is_written ? 1 : 0));
  if (options.add_generation_prompt) GLIMPSE_TRY(writer.generation_prompt());
  return writer.finish();
}

Result<TokenizedChat> tokenize_chat_continuation(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                                 bool answer_ended, const ChatOptions& options) {
  ChatWriter writer(tokenizer, options, false);
  if (answer_ended) {
    writer.text("\n");
  } else {
    GLIMPSE_TRY(writer.close());
  }
  GLIMPSE_TRY(writer.messages(messages, 0));
  if (options.add_generation_prompt) GLIMPSE_TRY(writer.generation_prompt());
  return writer.finish();
}

Result<TokenizedChat> tokenize_raw(const Tokenizer& tokenizer, const std::vector<ChatPart>& parts,
                                   const ChatOptions& options) {
  ChatWriter writer(tokenizer, options, true);
  GLIMPSE_TRY(writer.parts(parts, "the raw text"));
  return writer.finish();
}

}  // namespace glimpse
