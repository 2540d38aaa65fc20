// Status codes, the per-thread error message and callbacks of the C API.
#include <string>

#include "engine/capi/handles.h"

namespace glimpse::capi {
namespace {

std::string& last_error() {
  thread_local std::string message;
  return message;
}

}  // namespace

glimpse_status to_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return GLIMPSE_ERROR_INVALID_ARGUMENT;
    case ErrorCode::kNotFound:
      return GLIMPSE_ERROR_NOT_FOUND;
    case ErrorCode::kIo:
      return GLIMPSE_ERROR_IO;
    case ErrorCode::kTruncated:
      return GLIMPSE_ERROR_TRUNCATED;
    case ErrorCode::kCorrupt:
      return GLIMPSE_ERROR_CORRUPT;
    case ErrorCode::kUnsupported:
      return GLIMPSE_ERROR_UNSUPPORTED;
    case ErrorCode::kTooLarge:
      return GLIMPSE_ERROR_TOO_LARGE;
    case ErrorCode::kMismatch:
      return GLIMPSE_ERROR_MISMATCH;
    case ErrorCode::kOutOfMemory:
      return GLIMPSE_ERROR_OUT_OF_MEMORY;
    case ErrorCode::kContextFull:
      return GLIMPSE_ERROR_CONTEXT_FULL;
    case ErrorCode::kCancelled:
      return GLIMPSE_ERROR_CANCELLED;
    case ErrorCode::kNumeric:
      return GLIMPSE_ERROR_NUMERIC;
    case ErrorCode::kDevice:
      return GLIMPSE_ERROR_DEVICE;
    case ErrorCode::kInternal:
      return GLIMPSE_ERROR_INTERNAL;
  }
  return GLIMPSE_ERROR_INTERNAL;
}

glimpse_status fail(const Error& error) {
  try {
    last_error() = error.message.empty() ? error_code_name(error.code) : error.message;
  } catch (...) {
    last_error().clear();  // no memory for the message: the status still says what happened
  }
  return to_status(error.code);
}

LogSink log_sink(glimpse_log_callback callback, void* user) {
  if (callback == nullptr) return {};
  return [callback, user](LogLevel level, std::string_view message) {
    callback(user, static_cast<glimpse_log_level>(level), std::string(message).c_str());
  };
}

ProgressSink progress_sink(glimpse_progress_callback callback, void* user) {
  if (callback == nullptr) return {};
  return [callback, user](std::string_view stage, double fraction) {
    return callback(user, std::string(stage).c_str(), fraction) != 0;
  };
}

}  // namespace glimpse::capi

extern "C" {

const char* glimpse_version(void) {
  return "0.1.0";
}

const char* glimpse_status_name(glimpse_status status) {
  if (status == GLIMPSE_OK) return "ok";
  for (int code = 0; code <= static_cast<int>(glimpse::ErrorCode::kInternal); ++code) {
    const auto error = static_cast<glimpse::ErrorCode>(code);
    if (glimpse::capi::to_status(error) == status) return glimpse::error_code_name(error);
  }
  return "unknown status";
}

const char* glimpse_last_error(void) {
  return glimpse::capi::last_error().c_str();
}

const char* glimpse_finish_reason_name(glimpse_finish_reason reason) {
  if (reason == GLIMPSE_FINISH_NONE) return "none";
  return glimpse::finish_reason_name(static_cast<glimpse::FinishReason>(reason));
}

}  // extern "C"
