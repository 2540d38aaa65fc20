// What strangers send to the server: the head of a request (first byte 'h'), the body of one ('c' chat, 'p' raw
// completion, 'b' base64), or its chunks ('k'). Besides not crashing: what is refused is refused with a status of the
// client's fault and a message that is JSON; a head that is taken says the same when it is read again.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz.h"
#include "tokenizer/tokenizer.h"
#include "tools/serve/base64.h"
#include "tools/serve/chat_request.h"
#include "tools/serve/chunked_body.h"
#include "tools/serve/completion.h"
#include "tools/serve/http_head.h"

namespace {

using namespace glimpse::serve;

using glimpse::fuzz::require;

const glimpse::Tokenizer& tokenizer() {
  static const glimpse::Tokenizer instance = glimpse::fuzz::byte_tokenizer([](glimpse::VocabularyData& data) {
    glimpse::fuzz::add_token(data, "<|im_end|>", glimpse::TokenType::kControl);
  });
  return instance;
}

RequestPolicy policy() {
  RequestPolicy policy;
  policy.media.directory = "/nonexistent-directory";
  policy.media.limits.max_pixels = 1 << 16;
  policy.media.limits.max_memory = 1 << 20;
  policy.media.max_pictures = 4;
  policy.media.video.ffmpeg = policy.media.video.ffprobe = "/nonexistent";
  policy.max_parts = 64;
  policy.model_name = "model";
  return policy;
}

void read_head(std::string_view text) {
  const HttpHead head = parse_head(text);
  require(!head.path.empty() && head.path.size() <= kMostPathBytes && head.path[0] == '/');
  const HttpHead again = parse_head(plain_head(head));
  require(again.method == head.method && again.path == head.path && again.content_length == head.content_length);
  require(again.expects_continue == head.expects_continue);
}

void read_chat(std::string_view text) {
  glimpse::ChatStyle style;
  style.thinking = glimpse::ChatStyle::Thinking::kLastMessage;
  FormatCache formats;
  glimpse::serve::TextGate texts;
  const ChatRequest request = read_chat_request(text, policy(), {tokenizer(), style, formats, texts});
  require(!request.messages.empty() && request.generation.n_choices >= 1 && request.generation.n_choices <= 16);
  size_t n_pictures = 0;
  for (const glimpse::RequestMessage& message : request.messages) {
    for (const glimpse::RequestPart& part : message.parts) n_pictures += part.image != nullptr ? 1 : 0;
  }
  require(n_pictures == request.pictures.size() && n_pictures <= 4);
  for (const std::string& tool : request.prompt.tools) require(Json::parse(tool).is_object());
}

void read_completion(std::string_view text) {
  FormatCache formats;
  glimpse::serve::TextGate texts;
  const glimpse::ChatStyle style;
  for (const CompletionKind kind : {CompletionKind::kLlama, CompletionKind::kOpenAi}) {
    const CompletionRequest request =
        read_completion_request(text, policy(), {tokenizer(), style, formats, texts}, kind);
    require(!request.prompts.empty() && request.picture_paths.size() <= 4);
  }
}

void read_chunks(std::string_view text) {
  std::optional<std::string> whole;
  {
    ChunkedBody body(64);
    if (body.push(text)) whole = body.take();
  }
  require(!whole || whole->size() <= 64);
  ChunkedBody body(64);
  bool done = false;
  for (size_t i = 0; i < text.size() && !done; ++i) done = body.push(text.substr(i, 1));
  require(done == whole.has_value() && (!done || body.take() == *whole));
}

void read_base64(std::string_view text) {
  size_t bad = 0;
  const auto bytes = decode_base64(text, &bad);
  require(bytes.has_value() || bad <= text.size());
  const auto again = decode_base64(encode_base64(text), &bad);
  require(again.has_value() && *again == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  try {
    switch (bytes[0]) {
      case 'h':
        read_head(text);
        break;
      case 'c':
        read_chat(text);
        break;
      case 'p':
        read_completion(text);
        break;
      case 'k':
        read_chunks(text);
        break;
      default:
        read_base64(text);
        break;
    }
  } catch (const ApiError& error) {
    require(error.status >= 400 && error.status <= 505 && error.status != 500 && !error.message.empty());
    require(Json::parse(error_body(error)).contains("error"));
  }
  return 0;
}
