#include "tokenizer/answer_parts.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tokenizer/json.h"

namespace glimpse {
namespace {

constexpr std::string_view kThink = "<think>", kEndThink = "</think>";
constexpr std::string_view kBlockHead = "<think>\n", kBlockTail = "\n</think>\n\n";
constexpr std::string_view kCall = "<tool_call>", kEndCall = "</tool_call>";

// Bytes at the end of `text` that may be the beginning of `marker`.
size_t open_end(std::string_view text, std::string_view marker) {
  size_t n = std::min(text.size(), marker.size() - 1);
  while (n > 0 && !marker.starts_with(text.substr(text.size() - n))) --n;
  return n;
}

}  // namespace

AnswerParts AnswerSplitter::push(std::string_view text) {
  held_.append(text);
  AnswerParts out;
  run(false, out);
  return out;
}

AnswerParts AnswerSplitter::finish() {
  AnswerParts out;
  run(true, out);
  // Line ends behind the last call are the template's, those behind thinking too.
  if (state_ == State::kContent && has_begun_ && n_calls_ == 0) out.content += line_ends_;
  line_ends_.clear();
  return out;
}

void AnswerSplitter::run(bool at_end, AnswerParts& out) {
  bool again = true;
  while (again) {
    switch (state_) {
      case State::kStart:
        again = start(at_end);
        break;
      case State::kThinking:
        again = think(at_end, out);
        break;
      case State::kContent:
        again = say(at_end, out);
        break;
      case State::kCall:
        again = call(at_end, out);
        break;
    }
  }
}

// Each of these takes what it can from held_; true: the state is another one and there may be more to take.

bool AnswerSplitter::start(bool at_end) {
  const size_t n_blanks = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
  const std::string_view rest = std::string_view(held_).substr(n_blanks);
  if (!at_end && rest.size() < kThink.size() && kThink.starts_with(rest)) return false;
  if (rest.starts_with(kThink)) {
    held_.erase(0, n_blanks + kThink.size());
    state_ = State::kThinking;
  } else {
    has_begun_ = true;  // an answer that begins with line ends keeps them
    state_ = State::kContent;
  }
  return true;
}

// Line ends come out with the next text of their part, so that those at its end do not.
void AnswerSplitter::add(std::string_view text, std::string& part) {
  if (!has_begun_) text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  if (text.empty()) return;
  has_begun_ = true;
  const size_t n = text.find_last_not_of('\n') + 1;  // 0 when there are only line ends
  if (n > 0) part.append(std::exchange(line_ends_, {})).append(text.substr(0, n));
  line_ends_.append(text.substr(n));
}

bool AnswerSplitter::think(bool at_end, AnswerParts& out) {
  const size_t end = held_.find(kEndThink);
  if (end == std::string::npos) {
    const size_t n = held_.size() - (at_end ? 0 : open_end(held_, kEndThink));
    add(std::string_view(held_).substr(0, n), out.reasoning);
    held_.erase(0, n);
    return false;
  }
  add(std::string_view(held_).substr(0, end), out.reasoning);
  held_.erase(0, end + kEndThink.size());
  line_ends_.clear();
  has_begun_ = false;
  state_ = State::kContent;
  return true;
}

bool AnswerSplitter::say(bool at_end, AnswerParts& out) {
  const size_t begin = options_.tool_calls ? held_.find(kCall) : std::string::npos;
  if (begin == std::string::npos) {
    const size_t n = held_.size() - (at_end || !options_.tool_calls ? 0 : open_end(held_, kCall));
    add(std::string_view(held_).substr(0, n), out.content);
    held_.erase(0, n);
    return false;
  }
  add(std::string_view(held_).substr(0, begin), out.content);
  held_.erase(0, begin + kCall.size());
  scanned_ = 0;
  in_string_ = false;
  state_ = State::kCall;
  return true;
}

// The end of a call is not looked for inside of its strings.
bool AnswerSplitter::call(bool at_end, AnswerParts& out) {
  for (; scanned_ < held_.size(); ++scanned_) {
    const char c = held_[scanned_];
    if (in_string_ && c == '\\') {
      if (scanned_ + 1 == held_.size()) break;
      ++scanned_;
    } else if (c == '"') {
      in_string_ = !in_string_;
    } else if (c == '<' && !in_string_) {
      const std::string_view rest = std::string_view(held_).substr(scanned_);
      if (rest.starts_with(kEndCall)) {
        end_call(out);
        return true;
      }
      if (rest.size() < kEndCall.size() && kEndCall.starts_with(rest)) break;
    }
  }
  if (!at_end) return false;
  ++n_calls_seen_;
  out.problems.push_back(format("tool call %d has no end", n_calls_seen_));
  state_ = State::kContent;
  has_begun_ = true;
  add(kCall, out.content);
  add(std::exchange(held_, {}), out.content);
  return false;
}

void AnswerSplitter::end_call(AnswerParts& out) {
  const std::string_view text = std::string_view(held_).substr(0, scanned_);
  ++n_calls_seen_;
  Result<ToolCall> parsed = parse_tool_call(text);
  state_ = State::kContent;
  if (parsed.ok()) {
    out.tool_calls.push_back(std::move(parsed).value());
    ++n_calls_;
  } else {
    out.problems.push_back(format("tool call %d: %s", n_calls_seen_, parsed.error().message));
    has_begun_ = true;
    add(kCall, out.content);
    add(text, out.content);
    add(kEndCall, out.content);
  }
  held_.erase(0, scanned_ + kEndCall.size());
}

void append_parts(AnswerParts& all, AnswerParts more) {
  all.reasoning += more.reasoning;
  all.content += more.content;
  std::move(more.tool_calls.begin(), more.tool_calls.end(), std::back_inserter(all.tool_calls));
  std::move(more.problems.begin(), more.problems.end(), std::back_inserter(all.problems));
}

AnswerParts split_answer(std::string_view text, AnswerSplitter::Options options) {
  AnswerSplitter splitter(options);
  AnswerParts parts = splitter.push(text);
  append_parts(parts, splitter.finish());
  return parts;
}

Result<ToolCall> parse_tool_call(std::string_view text) {
  GLIMPSE_ASSIGN(const JsonValue value, parse_json(text));
  const JsonValue *name = value.find("name"), *arguments = value.find("arguments");
  if (name == nullptr || name->kind != JsonValue::Kind::kString || name->text.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "the call has no \"name\"");
  }
  if (arguments == nullptr || arguments->kind != JsonValue::Kind::kObject) {
    return make_error(ErrorCode::kInvalidArgument, "the call of %.80s has no object of \"arguments\"", name->text);
  }
  return ToolCall{name->text, to_python_json(*arguments)};
}

Result<JoinedAnswer> join_answer(const AnswerParts& parts, const ChatStyle& style, bool reasoning_known) {
  JoinedAnswer joined;
  std::string_view reasoning = parts.reasoning, content = parts.content;
  const bool shows_reasoning = style.thinking == ChatStyle::Thinking::kSinceQuestion;
  if (const auto parted = part_text(content); parted && shows_reasoning && !reasoning_known) {
    reasoning = parted->reasoning;
    content = parted->content;
  }
  std::string& text = joined.said;
  text = content;
  const char* separator = content.empty() ? "" : "\n";
  for (const ToolCall& call : parts.tool_calls) {
    if (call.name.empty()) return make_error(ErrorCode::kInvalidArgument, "a tool call has no name");
    const Result<JsonValue> object = parse_json(call.arguments.empty() ? "{}" : call.arguments);
    const bool is_object = object.ok() && object.value().kind == JsonValue::Kind::kObject;
    const std::string arguments = is_object                ? to_python_json(object.value())
                                  : style.quotes_arguments ? json_quoted(call.arguments)
                                                           : call.arguments;
    text.append(std::exchange(separator, "\n")).append("<tool_call>\n{\"name\": ").append(json_quoted(call.name));
    text.append(", \"arguments\": ").append(arguments).append("}\n</tool_call>");
  }
  const bool looks_so = text.find(kEndThink) != std::string::npos;
  if (shows_reasoning && (!reasoning.empty() || looks_so)) {
    joined.thinking.append(kBlockHead).append(reasoning).append(kBlockTail);
  }
  return joined;
}

std::optional<PartedText> part_text(std::string_view text) {
  const size_t end = text.rfind(kEndThink);
  if (end == std::string_view::npos) return std::nullopt;
  PartedText parts{text.substr(0, text.find(kEndThink)), text.substr(end + kEndThink.size())};
  if (const size_t begin = parts.reasoning.rfind(kThink); begin != std::string_view::npos) {
    parts.reasoning.remove_prefix(begin + kThink.size());
  }
  const auto trim = [](std::string_view& of) { of.remove_prefix(std::min(of.find_first_not_of('\n'), of.size())); };
  trim(parts.content);
  trim(parts.reasoning);
  parts.reasoning = parts.reasoning.substr(0, parts.reasoning.find_last_not_of('\n') + 1);
  return parts;
}

std::optional<std::string_view> reasoning_of_block(std::string_view text) {
  if (text.size() < kBlockHead.size() + kBlockTail.size()) return std::nullopt;
  if (!text.starts_with(kBlockHead) || !text.ends_with(kBlockTail)) return std::nullopt;
  return text.substr(kBlockHead.size(), text.size() - kBlockHead.size() - kBlockTail.size());
}

}  // namespace glimpse
