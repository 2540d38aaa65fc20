// What a server streams, as OpenAI's interface has it: lines "data: {...}" with pieces of an answer, and an end.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace glimpse::load {

struct StreamEvent {
  bool has_token = false;  // a piece of the answer (maybe empty), of its reasoning or of a call: at least one token
  std::string text;        // of the answer
  int64_t n_prompt_tokens = -1, n_output_tokens = -1;  // of `usage`; negative: not told
  std::string finish_reason;
  std::string error;  // the server's message
  bool done = false;  // data: [DONE]
};

/// Eats bytes in any pieces. Lines that are no event are left out, as clients do.
class EventStream {
 public:
  explicit EventStream(std::function<void(const StreamEvent&)> on_event) : on_event_(std::move(on_event)) {}
  /// false: a line is longer than any event.
  bool add(std::string_view bytes);

 private:
  void take_line(std::string_view line);

  const std::function<void(const StreamEvent&)> on_event_;
  std::string line_;
};

/// The message of an answer that is no stream: {"error": {"message": ...}}, or the beginning of what it is.
std::string error_message(std::string_view body);

}  // namespace glimpse::load
