#include "tools/load/event_stream.h"

#include <nlohmann/json.hpp>

namespace glimpse::load {
namespace {

using nlohmann::json;

constexpr size_t kMaxLine = size_t{4} << 20;

const json* member(const json* object, const char* name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto found = object->find(name);
  return found == object->end() || found->is_null() ? nullptr : &*found;
}
std::string text_of(const json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}
int64_t count_of(const json* value) {
  if (value == nullptr || !value->is_number_integer()) return -1;
  const auto n = value->get<int64_t>();
  return n >= 0 && n < (int64_t{1} << 40) ? n : -1;
}

std::string message_of(const json& object) {
  const json* const error = member(&object, "error");
  if (error == nullptr) return "";
  if (error->is_string()) return error->get<std::string>();
  const std::string message = text_of(member(error, "message"));
  return message.empty() ? "an error without a message" : message;
}

StreamEvent event_of(const json& object) {
  StreamEvent event;
  event.error = message_of(object);
  const json* const usage = member(&object, "usage");
  event.n_prompt_tokens = count_of(member(usage, "prompt_tokens"));
  event.n_output_tokens = count_of(member(usage, "completion_tokens"));
  const json* const choices = member(&object, "choices");
  if (choices == nullptr || !choices->is_array() || choices->empty()) return event;
  const json* const choice = &choices->front();
  event.finish_reason = text_of(member(choice, "finish_reason"));
  const json* const delta = member(choice, "delta");
  event.text = text_of(member(delta, "content"));
  // A token without a text of its own has an empty piece; so has the role, which may come before the first token.
  const json* const content = member(delta, "content");
  const bool is_piece = content != nullptr && content->is_string() && member(delta, "role") == nullptr;
  event.has_token = is_piece || !event.text.empty() || !text_of(member(delta, "reasoning_content")).empty() ||
                    member(delta, "tool_calls") != nullptr;
  return event;
}

}  // namespace

bool EventStream::add(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    if (line_.size() + std::min(end, bytes.size()) > kMaxLine) return false;
    line_.append(bytes.substr(0, end));
    if (end == std::string_view::npos) return true;
    take_line(line_);
    line_.clear();
    bytes.remove_prefix(end + 1);
  }
  return true;
}

void EventStream::take_line(std::string_view line) {
  constexpr std::string_view kData = "data:";
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line == "[DONE]") {
    StreamEvent event;
    event.done = true;
    on_event_(event);
    return;
  }
  const json object = json::parse(line, nullptr, false);
  if (object.is_object()) on_event_(event_of(object));
}

std::string error_message(std::string_view body) {
  const json object = json::parse(body, nullptr, false);
  const std::string message = object.is_object() ? message_of(object) : "";
  return message.empty() ? std::string(body.substr(0, 200)) : message;
}

}  // namespace glimpse::load
