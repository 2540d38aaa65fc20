#include "tokenizer/chat.h"

#include <algorithm>
#include <string_view>

#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

constexpr std::string_view kRoles[] = {"system", "user", "assistant"};
constexpr std::string_view kImStart = "<|im_start|>", kImEnd = "<|im_end|>";
constexpr std::string_view kImagePad = "<|image_pad|>", kVideoPad = "<|video_pad|>";
constexpr int64_t kMaxPads = int64_t{1} << 24;  // far beyond any context; keeps the ids below 64 MB

/// Writes the rendered template as ids. Text gathers until the next control token, because the words of the template
/// and those of the user share fragments: "user\n" and a message that begins with "\n" make one "\n\n".
class ChatWriter {
 public:
  /// raw: control tokens in a text are recognised.
  ChatWriter(const Tokenizer& tokenizer, const ChatOptions& options, bool raw)
      : tokenizer_(tokenizer),
        text_options_{.parse_special = raw, .normalize_nfc = options.normalize_nfc},
        add_vision_id_(options.add_vision_id),
        n_images_(options.n_images_before),
        n_videos_(options.n_videos_before) {}

  void text(std::string_view text) { text_.append(text); }

  Status control(std::string_view name) {
    const TokenId id = tokenizer_.find(name);
    if (id < 0 || tokenizer_.type(id) != TokenType::kControl) {
      return make_error(ErrorCode::kUnsupported, "the vocabulary has no token %s", name);
    }
    GLIMPSE_TRY(flush());
    chat_.ids.push_back(id);
    return {};
  }

  Status message(const ChatMessage& message) {
    if (std::find(std::begin(kRoles), std::end(kRoles), message.role) == std::end(kRoles)) {
      return make_error(ErrorCode::kInvalidArgument, "role '%.40s': known are system, user and assistant",
                        message.role);
    }
    GLIMPSE_TRY(open(message.role));
    GLIMPSE_TRY(parts(message.parts, "the " + message.role + "'s text"));
    return close();
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
    text("\n");
    return {};
  }

  Result<TokenizedChat> finish(bool add_generation_prompt) {
    if (add_generation_prompt) GLIMPSE_TRY(open("assistant"));
    GLIMPSE_TRY(flush());
    return std::move(chat_);
  }

 private:
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
    if (add_vision_id_) text(format("%s %d: ", is_video ? "Video" : "Picture", count));
    GLIMPSE_TRY(control("<|vision_start|>"));
    GLIMPSE_TRY(control(is_video ? kVideoPad : kImagePad));
    chat_.visuals.push_back({.position = static_cast<int64_t>(chat_.ids.size()) - 1,
                             .n_tokens = part.n_tokens,
                             .is_video = is_video,
                             .part_index = static_cast<int>(chat_.visuals.size())});
    const TokenId pad = chat_.ids.back();
    chat_.ids.insert(chat_.ids.end(), static_cast<size_t>(part.n_tokens) - 1, pad);
    return control("<|vision_end|>");
  }

  const Tokenizer& tokenizer_;
  const TokenizeOptions text_options_;
  const bool add_vision_id_;
  int64_t n_images_, n_videos_;
  int64_t n_pads_ = 0;
  std::string text_;  // since the last control token
  TokenizedChat chat_;
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

}  // namespace

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
  if (!messages.empty() && messages[0].role != "system" && !options.default_system.empty()) {
    GLIMPSE_TRY(writer.open("system"));
    writer.text(options.default_system);
    GLIMPSE_TRY(writer.close());
  }
  for (const ChatMessage& message : messages) GLIMPSE_TRY(writer.message(message));
  return writer.finish(options.add_generation_prompt);
}

Result<TokenizedChat> tokenize_chat_continuation(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                                 bool answer_ended, const ChatOptions& options) {
  ChatWriter writer(tokenizer, options, false);
  if (answer_ended) {
    writer.text("\n");
  } else {
    GLIMPSE_TRY(writer.close());
  }
  for (const ChatMessage& message : messages) GLIMPSE_TRY(writer.message(message));
  return writer.finish(options.add_generation_prompt);
}

Result<TokenizedChat> tokenize_raw(const Tokenizer& tokenizer, const std::vector<ChatPart>& parts,
                                   const ChatOptions& options) {
  ChatWriter writer(tokenizer, options, true);
  GLIMPSE_TRY(writer.parts(parts, "the raw text"));
  return writer.finish(false);
}

std::string default_system_prompt(const std::string& chat_template) {
  if (chat_template.empty()) return "You are a helpful assistant.";
  const std::string_view source = chat_template;
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

}  // namespace glimpse
