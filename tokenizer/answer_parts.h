// An answer taken apart while it comes: what the model thinks, what it says, the tools that it calls.
// Source: the chat templates of QwQ, Qwen2.5 and Qwen3 (tokenizer_config.json): <think> and <tool_call>.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "tokenizer/chat_style.h"

namespace glimpse {

struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object, as to_python_json() spells it
};

/// A whole answer, or what became known of it with one more piece of text.
struct AnswerParts {
  std::string reasoning = {};  // without the line ends around it
  std::string content;         // without those that part it from reasoning and calls
  std::vector<ToolCall> tool_calls = {};
  /// What was no tool call though it began like one, and why. It stays content.
  std::vector<std::string> problems = {};
};

/// Takes text as a StreamDecoder gives it. The deltas' concatenation depends on the text alone, not on how it was cut.
/// Thinking is what stands between <think> and </think> at the beginning of an answer; without an end all is thinking.
class AnswerSplitter {
 public:
  struct Options {
    bool thinking_open = false;  // the prompt ended inside of <think> (TokenizedChat::thinking_open)
    bool tool_calls = false;     // <tool_call> is looked for: tools were given
  };
  explicit AnswerSplitter(Options options)
      : options_(options), state_(options.thinking_open ? State::kThinking : State::kStart) {}

  /// What this piece of text has made known; held back is what may be a part of a marker or of a call.
  AnswerParts push(std::string_view text);
  /// The rest, at the end of the answer.
  AnswerParts finish();

 private:
  enum class State { kStart, kThinking, kContent, kCall };

  void run(bool at_end, AnswerParts& out);
  bool start(bool at_end);
  bool think(bool at_end, AnswerParts& out);
  bool say(bool at_end, AnswerParts& out);
  bool call(bool at_end, AnswerParts& out);
  void end_call(AnswerParts& out);
  void add(std::string_view text, std::string& part);

  Options options_;
  State state_;
  std::string held_;        // text that is not told yet
  std::string line_ends_;   // told if something of the same part follows
  bool has_begun_ = false;  // something of the part was told
  // Of a call: held_ up to scanned_ holds no end of it; whether that is inside of a string.
  size_t scanned_ = 0;
  bool in_string_ = false;
  int n_calls_seen_ = 0, n_calls_ = 0;
};

/// Adds what became known later. Allocates nothing where `all` has room.
void append_parts(AnswerParts& all, AnswerParts more);

/// A whole answer at once.
AnswerParts split_answer(std::string_view text, AnswerSplitter::Options options);

/// One call out of the text between <tool_call> and </tool_call>. Errors: kInvalidArgument: no JSON, or not of the form
/// {"name": "...", "arguments": {...}}.
Result<ToolCall> parse_tool_call(std::string_view text);

/// The texts of an assistant's message, a part of it each. Where reasoning and content were apart they stay so: neither
/// is looked for in the other (tokenize_chat()).
struct JoinedAnswer {
  std::string thinking = {};  // a think block; empty: the message has no such part
  std::string said;           // what it said and called
};

/// The way back: what an assistant's message says of an answer whose parts are known, as templates of this style render
/// it. reasoning_known: content has no think block of its own, though it may look so. Reasoning is left out where the
/// style shows none that came apart. Arguments that are no JSON object, as an answer that was cut off leaves them,
/// stand as they are or, where the style has it so, as a JSON string. Errors: kInvalidArgument: a call without a name.
Result<JoinedAnswer> join_answer(const AnswerParts& parts, const ChatStyle& style, bool reasoning_known);

/// What an answer thinks and says where that is one text, as Qwen3's template parts it: up to the first </think>,
/// behind the last one, without the line ends around. nullopt: it has none.
struct PartedText {
  std::string_view reasoning, content;
};
std::optional<PartedText> part_text(std::string_view text);

/// The reasoning of JoinedAnswer::thinking; nullopt: the text is none.
std::optional<std::string_view> reasoning_of_block(std::string_view text);

}  // namespace glimpse
