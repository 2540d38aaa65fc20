// What a server streams to glimpse load, whole and cut in two.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tools/load/event_stream.h"

namespace {

std::string events_of(std::string_view first, std::string_view second) {
  std::string said;
  glimpse::load::EventStream stream([&](const glimpse::load::StreamEvent& event) {
    said += event.text + '|' + event.error + '|' + event.finish_reason + '|' + std::to_string(event.n_prompt_tokens) +
            '|' + std::to_string(event.n_output_tokens) + (event.done ? "done" : "") + '\n';
  });
  if (stream.add(first)) stream.add(second);
  return said;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(bytes), size);
  const std::string whole = events_of(all, "");
  for (const size_t at : {size / 2, size / 3}) {
    if (events_of(all.substr(0, at), all.substr(at)) != whole) std::abort();
  }
  glimpse::load::error_message(all);
  return 0;
}
