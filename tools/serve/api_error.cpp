#include "tools/serve/api_error.h"

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
    case 503:
      return "unavailable_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
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
      return ApiError(400, error.message, "messages", "context_length_exceeded");
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

std::string error_body(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  const Json body = {{"error",
                      {{"message", error.message},
                       {"type", type_of(error.status)},
                       {"param", text_or_null(error.param)},
                       {"code", text_or_null(error.code)}}}};
  return dump(body);
}

}  // namespace glimpse::serve
