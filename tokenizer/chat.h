// ChatML with pictures: messages to a list of text and picture parts, and those to token ids.
// Source: the chat templates named in chat_style.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "tokenizer/chat_style.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

/// One piece of a message. Text is data: control tokens inside it are not recognised, and those that part an answer
/// (<think>, <tool_call>, <tool_response>) only in an assistant's message.
struct ChatPart {
  enum class Kind { kText, kImage, kVideo };
  Kind kind = Kind::kText;
  std::string text;      // kText
  int64_t n_tokens = 0;  // kImage, kVideo: embeddings that the decoder will see (merged tokens)
  /// kVideo: when each of its slices is. Not empty (Qwen3-VL): each is a block of its own behind "<0.5 seconds>".
  std::vector<double> slice_seconds = {};
};

struct ChatMessage {
  /// "system", "user", "assistant" (its text as the model says it, or the parts that join_answer() makes), "tool" (what
  /// a tool gave).
  std::string role;
  std::vector<ChatPart> parts;
};

struct ChatOptions {
  bool add_generation_prompt = true;
  bool normalize_nfc = true;
  /// Emitted when the first message is no system message and this is the start of the conversation; empty: nothing is.
  std::string default_system = "You are a helpful assistant.";
  ChatStyle style = {};
  /// Definitions of tools the model may call, a JSON object each, as OpenAI has them. Only at the start of the
  /// conversation.
  std::vector<std::string> tools = {};
  /// Whether the model is to think before it answers; nullopt: as the template does when it is not asked.
  std::optional<bool> enable_thinking = {};
};

/// What the caller says of a prompt beside its messages.
struct PromptOptions {
  std::vector<std::string> tools = {};       // as ChatOptions::tools
  std::optional<bool> enable_thinking = {};  // as ChatOptions::enable_thinking
};
ChatOptions chat_options(const ChatFormat& format, const PromptOptions& prompt = {});

/// Whether the generation prompt ends inside of <think>.
bool opens_thinking(const ChatStyle& style, const PromptOptions& prompt);

/// Whether a template leaves out what earlier answers thought when these messages follow them.
bool ends_thinking(const ChatStyle& style, const std::vector<ChatMessage>& messages);

/// Where a picture's embeddings go: `position` is the index of its first pad token in ids.
struct VisualSpan {
  int64_t position = 0;
  int64_t n_tokens = 0;
  int part_index = 0;  // counts visual parts over all messages given, in order
  /// Of a video of several blocks, which one this is: each has a span, with the tokens of one slice.
  int slice = 0;
  bool is_slice = false;
};

struct TokenizedChat {
  std::vector<TokenId> ids;
  std::vector<VisualSpan> visuals;
  bool thinking_open = false;  // the generation prompt ends inside of <think>
};

/// What every text of a prompt must be. what: names it in the message, e.g. "the user's text". n_before: bytes of that
/// text before this piece; offsets count them. Errors: kInvalidArgument: invalid UTF-8 or a zero byte, with its offset.
Status check_prompt_text(std::string_view text, std::string_view what, size_t n_before = 0);

/// Tokenizes a conversation from its start. The ids are those of the rendered template as a whole, except that control
/// tokens written in a text stay text. Pad tokens stand where picture parts are and nowhere else.
/// Errors: kUnsupported (tools or tool results that the style has no form for, thinking that it cannot switch off),
/// kInvalidArgument (a tool that is no JSON object, unknown role, check_prompt_text(), a picture of no tokens),
/// kTooLarge (more than 2^24 pad tokens), kUnsupported when the vocabulary has no chat tokens, or no vision tokens but
/// a part is a picture.
Result<TokenizedChat> tokenize_chat(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                    const ChatOptions& options);

/// Tokenizes what follows an answer in the same conversation: the newline after the model's own <|im_end|> (or
/// <|im_end|> and newline when the answer was cut off), then the new messages and the generation prompt.
/// answer_ended: the model itself emitted <|im_end|> and it is in the cache.
/// Prompt ids, answer ids and these together equal tokenize_chat of the whole conversation, when the answer's ids are
/// those of its text and the text does not begin with whitespace that has a line end (which would join the template's).
/// No default system prompt is added. Errors: as above.
Result<TokenizedChat> tokenize_chat_continuation(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                                 bool answer_ended, const ChatOptions& options);

/// Tokenizes parts as they are: no template and no system prompt, for base models or for a template of the caller's
/// own. Control tokens in the texts are recognised: the ids are those that transformers' tokenizer gives for the text.
/// A picture is <|vision_start|>, its pad tokens, <|vision_end|>; a pad token in a text is an error. Errors: as above.
Result<TokenizedChat> tokenize_raw(const Tokenizer& tokenizer, const std::vector<ChatPart>& parts,
                                   const ChatOptions& options);

}  // namespace glimpse
