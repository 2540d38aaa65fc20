#include "tools/serve/api_error.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tools/serve/json_body.h"

namespace glimpse::serve {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 501:
      return "not_supported_error";
    case 503:
      return "unavailable_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

// The numbers stand in the message ("... 900 tokens; the context holds 512"): clients of llama.cpp find them in fields.
ApiError context_error(const std::string& message) {
  ApiError full(400, message, "messages", "context_length_exceeded");
  const std::string_view words = " tokens; the context holds ";
  const size_t at = message.find(words);
  if (at == std::string::npos) return full;
  const size_t digits = message.find_last_not_of("0123456789", at - 1) + 1;
  full.type = "exceed_context_size_error";
  full.n_prompt_tokens = std::atoll(message.c_str() + digits);
  full.n_ctx = std::atoll(message.c_str() + at + words.size());
  return full;
}

}  // namespace

ApiError api_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
    case ErrorCode::kTruncated:
    case ErrorCode::kCorrupt:
    case ErrorCode::kUnsupported:
    case ErrorCode::kMismatch:
    case ErrorCode::kTooLarge:
      return ApiError(400, error.message);
    case ErrorCode::kContextFull:
      return context_error(error.message);
    case ErrorCode::kBusy: {
      ApiError busy(429, error.message, "", "queue_full");
      busy.retry_after_s = 1;
      return busy;
    }
    case ErrorCode::kOutOfMemory:
    case ErrorCode::kCancelled: {
      ApiError stopped(503, error.message, "", error_code_name(error.code));
      stopped.retry_after_s = 5;
      return stopped;
    }
    default:
      return ApiError(500, error.message, "", error_code_name(error.code));
  }
}

ApiError client_left() {
  return ApiError(400, "the client closed its side of the connection before its answer was there: keep it open", "",
                  "client_left");
}

void place_picture_error(const std::vector<std::string>& paths, ApiError& error) {
  const std::string_view word = "picture ";
  if (error.message.compare(0, word.size(), word) != 0) return;
  const int number = std::atoi(error.message.c_str() + word.size());
  if (number < 1 || static_cast<size_t>(number) > paths.size()) return;
  error.param = paths[static_cast<size_t>(number) - 1];
  error.message = format("%s: %s", error.param, error.message);
}

std::string error_body(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  Json told = {{"message", error.message},
               {"type", error.type.empty() ? type_of(error.status) : error.type},
               {"param", text_or_null(error.param)},
               {"code", text_or_null(error.code)}};
  if (error.n_ctx > 0) told.update({{"n_prompt_tokens", error.n_prompt_tokens}, {"n_ctx", error.n_ctx}});
  return dump({{"error", std::move(told)}});
}

}  // namespace glimpse::serve
