// Random conversations and chat templates. Each line of the input is a message (its first character says who speaks) or
// a part of the last message: "u s a T ?" user, system, assistant, tool, an unknown role; "d" a tool's definition; "t"
// text; "i<n>" image, "v<n>" video; "o<bits>" options. The whole input is also read as a template, as JSON and as an
// answer. Besides not crashing: the control tokens are those of the structure, whatever the texts say.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "tokenizer/answer_parts.h"
#include "tokenizer/chat.h"
#include "tokenizer/json.h"
#include "tokenizer/utf8.h"

namespace {

using glimpse::ChatMessage;
using glimpse::ChatPart;

using glimpse::fuzz::require;

const glimpse::Tokenizer& tokenizer() {
  static const glimpse::Tokenizer instance = glimpse::fuzz::byte_tokenizer([](glimpse::VocabularyData& data) {
    using glimpse::TokenType;
    for (const char* token : {"us", "er", "user", "|>", "<|", "im", "<|im"}) glimpse::fuzz::add_token(data, token);
    data.merges = {"u s", "e r", "us er", "| >", "< |", "i m", "<| im"};
    for (const char* token : {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
                              "<|video_pad|>", "<|endoftext|>"}) {
      glimpse::fuzz::add_token(data, token, TokenType::kControl);
    }
    glimpse::fuzz::add_token(data, "<think>", TokenType::kUserDefined);
  });
  return instance;
}

struct Input {
  std::vector<ChatMessage> messages;
  glimpse::ChatOptions options;
  bool valid = true;       // nothing in it should be refused
  bool has_tools = false;  // messages of a tool
  int64_t n_tool_turns = 0;
  int64_t n_images = 0, n_videos = 0, n_image_pads = 0, n_video_pads = 0;
};

Input read_input(std::string_view rest) {
  Input input;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    const std::string_view content = line.substr(1);
    const auto add = [&](ChatPart part) {
      if (input.messages.empty()) input.messages.push_back({"user", {}});
      input.messages.back().parts.push_back(std::move(part));
    };
    switch (line[0]) {
      case 'u':
        input.messages.push_back({"user", {}});
        break;
      case 's':
        input.messages.push_back({"system", {}});
        break;
      case 'a':
        input.messages.push_back({"assistant", {}});
        break;
      case 'T':
        input.messages.push_back({"tool", {}});
        input.n_tool_turns += input.messages.size() < 2 || input.messages[input.messages.size() - 2].role != "tool";
        input.has_tools = true;
        break;
      case 'd':
        input.options.tools.emplace_back(content);
        break;
      case '?':
        input.messages.push_back({std::string(content), {}});
        input.valid &= content == "user" || content == "system" || content == "assistant";
        break;
      case 'i':
      case 'v': {
        const int64_t n = content.empty() ? 1 : static_cast<int64_t>(content[0]) - 'A';
        add({line[0] == 'i' ? ChatPart::Kind::kImage : ChatPart::Kind::kVideo, "", n});
        input.valid &= n > 0;
        (line[0] == 'i' ? input.n_images : input.n_videos) += 1;
        (line[0] == 'i' ? input.n_image_pads : input.n_video_pads) += n;
        break;
      }
      case 'o': {
        const unsigned bits = content.empty() ? 0 : static_cast<unsigned char>(content[0]);
        input.options.add_generation_prompt = bits & 1;
        input.options.normalize_nfc = bits & 4;
        if (bits & 8) input.options.default_system.clear();
        input.options.style.tools = bits & 16 ? glimpse::ChatStyle::Tools::kJson : glimpse::ChatStyle::Tools::kNone;
        input.options.style.thinking = static_cast<glimpse::ChatStyle::Thinking>((bits >> 5 & 3) % 3);
        input.options.style.opens_thinking = bits & 128;
        break;
      }
      default:
        add({ChatPart::Kind::kText, std::string(content), 0});
        if (glimpse::find_invalid_utf8(content) != std::string_view::npos ||
            content.find('\0') != std::string_view::npos) {
          input.valid = false;
        }
    }
  }
  return input;
}

int64_t count(const glimpse::TokenizedChat& chat, const char* token) {
  return std::count(chat.ids.begin(), chat.ids.end(), tokenizer().find(token));
}

void check(const Input& input, const glimpse::TokenizedChat& chat, int64_t n_turns, int64_t n_ends) {
  require(count(chat, "<|im_start|>") == n_turns);
  require(count(chat, "<|im_end|>") == n_ends);
  require(count(chat, "<|vision_start|>") == input.n_images + input.n_videos);
  require(count(chat, "<|vision_end|>") == input.n_images + input.n_videos);
  require(count(chat, "<|image_pad|>") == input.n_image_pads);
  require(count(chat, "<|video_pad|>") == input.n_video_pads);
  require(count(chat, "<|endoftext|>") == 0);
  require(static_cast<int64_t>(chat.visuals.size()) == input.n_images + input.n_videos);
  const auto at = [&](int64_t i) { return chat.ids[static_cast<size_t>(i)]; };
  for (const glimpse::VisualSpan& span : chat.visuals) {
    require(at(span.position - 1) == tokenizer().find("<|vision_start|>"));
    require(at(span.position + span.n_tokens) == tokenizer().find("<|vision_end|>"));
  }
  require(glimpse::find_invalid_utf8(tokenizer().decode(chat.ids, true)) == std::string_view::npos);
}

// Without a template: the ids are the text's, and pads stand for pictures alone.
void check_raw(const ChatMessage& message, const glimpse::ChatOptions& options) {
  const auto raw = glimpse::tokenize_raw(tokenizer(), message.parts, options);
  if (!raw.ok()) return;
  int64_t n_pads = 0;
  for (const glimpse::VisualSpan& span : raw.value().visuals) n_pads += span.n_tokens;
  require(count(raw.value(), "<|image_pad|>") + count(raw.value(), "<|video_pad|>") == n_pads);
  std::string text;
  for (const ChatPart& part : message.parts) {
    if (part.kind != ChatPart::Kind::kText) return;
    text += part.text;
  }
  const auto ids = tokenizer().encode(text, {.parse_special = true, .normalize_nfc = options.normalize_nfc});
  require(ids.ok() && ids.value() == raw.value().ids);
}

// What was read is written and read again to the same. Numbers are kept as they were where a reader takes any.
void check_json(std::string_view text) {
  constexpr glimpse::JsonRules kExact = {.repeated_keys = false, .any_number = true};
  if (const auto exact = glimpse::parse_json(text, kExact); exact.ok()) {
    const std::string same = glimpse::write_json(exact.value());
    const auto read = glimpse::parse_json(same, kExact);
    require(read.ok() && glimpse::write_json(read.value()) == same);
  }
  const auto value = glimpse::parse_json(text);
  if (!value.ok()) return;
  const std::string written = glimpse::to_python_json(value.value());
  const auto again = glimpse::parse_json(written);
  require(again.ok() && glimpse::to_python_json(again.value()) == written);
}

// The parts do not depend on how the text was cut.
void check_answer(std::string_view text) {
  for (const bool open : {false, true}) {
    const glimpse::AnswerSplitter::Options options{.thinking_open = open, .tool_calls = true};
    const glimpse::AnswerParts whole = glimpse::split_answer(text, options);
    glimpse::AnswerSplitter splitter(options);
    glimpse::AnswerParts parts;
    for (size_t at = 0; at < text.size(); at += 3) glimpse::append_parts(parts, splitter.push(text.substr(at, 3)));
    glimpse::append_parts(parts, splitter.finish());
    require(parts.reasoning == whole.reasoning && parts.content == whole.content && parts.problems == whole.problems);
    require(parts.tool_calls.size() == whole.tool_calls.size());
    require(parts.reasoning.size() + parts.content.size() <= text.size());
    for (const glimpse::ToolCall& call : parts.tool_calls) require(glimpse::parse_json(call.arguments).ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(bytes), size);
  require(glimpse::recognise_chat_format(all, false).default_system.size() <= size + 28);
  const Input input = read_input(all);
  const int64_t n = static_cast<int64_t>(input.messages.size()), generation = input.options.add_generation_prompt;

  check_json(all);
  check_answer(all);
  const auto whole = glimpse::tokenize_chat(tokenizer(), input.messages, input.options);
  if (input.has_tools || !input.options.tools.empty()) {
    // What tools say is data as well: of control tokens there are the template's alone.
    if (whole.ok()) require(count(whole.value(), "<|im_start|>") == count(whole.value(), "<|im_end|>") + generation);
    return 0;
  }
  require(whole.ok() == input.valid);
  for (const ChatMessage& message : input.messages) check_raw(message, input.options);
  if (whole.ok()) {
    const bool system = n > 0 && input.messages[0].role != "system" && !input.options.default_system.empty();
    check(input, whole.value(), n + generation + system, n + system);
  }
  for (const bool ended : {false, true}) {
    const auto more = glimpse::tokenize_chat_continuation(tokenizer(), input.messages, ended, input.options);
    require(more.ok() == whole.ok());
    if (more.ok()) check(input, more.value(), n + generation, n + !ended);
  }
  return 0;
}
