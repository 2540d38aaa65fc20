// Status codes, the per-thread error message and callbacks of the C API.
#include <algorithm>
#include <cstring>
#include <string>

#include "engine/capi/handles.h"

namespace glimpse::capi {
namespace {

// Plain storage: a type with a constructor or destructor would need memory at its first use in a thread, and that is
// when there may be none.
constexpr size_t kMessageBytes = 1024;
constinit thread_local char last_error[kMessageBytes] = "";

static_assert(to_status(ErrorCode::kInvalidArgument) == GLIMPSE_ERROR_INVALID_ARGUMENT);
static_assert(to_status(ErrorCode::kNotFound) == GLIMPSE_ERROR_NOT_FOUND);
static_assert(to_status(ErrorCode::kIo) == GLIMPSE_ERROR_IO);
static_assert(to_status(ErrorCode::kTruncated) == GLIMPSE_ERROR_TRUNCATED);
static_assert(to_status(ErrorCode::kCorrupt) == GLIMPSE_ERROR_CORRUPT);
static_assert(to_status(ErrorCode::kUnsupported) == GLIMPSE_ERROR_UNSUPPORTED);
static_assert(to_status(ErrorCode::kTooLarge) == GLIMPSE_ERROR_TOO_LARGE);
static_assert(to_status(ErrorCode::kMismatch) == GLIMPSE_ERROR_MISMATCH);
static_assert(to_status(ErrorCode::kOutOfMemory) == GLIMPSE_ERROR_OUT_OF_MEMORY);
static_assert(to_status(ErrorCode::kContextFull) == GLIMPSE_ERROR_CONTEXT_FULL);
static_assert(to_status(ErrorCode::kCancelled) == GLIMPSE_ERROR_CANCELLED);
static_assert(to_status(ErrorCode::kNumeric) == GLIMPSE_ERROR_NUMERIC);
static_assert(to_status(ErrorCode::kDevice) == GLIMPSE_ERROR_DEVICE);
static_assert(to_status(ErrorCode::kInternal) == GLIMPSE_ERROR_INTERNAL);
static_assert(to_status(ErrorCode::kBusy) == GLIMPSE_ERROR_BUSY);

// Numbers that pass through the interface by a cast.
template <typename C, typename Ours>
constexpr bool same(C c, Ours ours) {
  return static_cast<int>(c) == static_cast<int>(ours);
}
static_assert(same(GLIMPSE_LOG_DEBUG, LogLevel::kDebug) && same(GLIMPSE_LOG_INFO, LogLevel::kInfo) &&
              same(GLIMPSE_LOG_WARNING, LogLevel::kWarning) && same(GLIMPSE_LOG_ERROR, LogLevel::kError));
static_assert(same(GLIMPSE_VISION_AUTO, VisionPrecision::kAuto) && same(GLIMPSE_VISION_F32, VisionPrecision::kF32) &&
              same(GLIMPSE_VISION_BF16, VisionPrecision::kBf16) && same(GLIMPSE_VISION_INT8, VisionPrecision::kInt8));
static_assert(same(GLIMPSE_DEVICE_CPU, DeviceKind::kCpu) && same(GLIMPSE_DEVICE_CUDA, DeviceKind::kCuda) &&
              same(GLIMPSE_DEVICE_AUTO, DeviceKind::kAuto));
static_assert(same(GLIMPSE_FINISH_STOP, FinishReason::kStop) &&
              same(GLIMPSE_FINISH_STOP_STRING, FinishReason::kStopString) &&
              same(GLIMPSE_FINISH_MAX_TOKENS, FinishReason::kMaxTokens) &&
              same(GLIMPSE_FINISH_CONTEXT_FULL, FinishReason::kContextFull) &&
              same(GLIMPSE_FINISH_CANCELLED, FinishReason::kCancelled));

static_assert(same(GLIMPSE_TOKEN_NORMAL, TokenType::kNormal) && same(GLIMPSE_TOKEN_UNKNOWN, TokenType::kUnknown) &&
              same(GLIMPSE_TOKEN_CONTROL, TokenType::kControl) &&
              same(GLIMPSE_TOKEN_USER_DEFINED, TokenType::kUserDefined) &&
              same(GLIMPSE_TOKEN_UNUSED, TokenType::kUnused) && same(GLIMPSE_TOKEN_BYTE, TokenType::kByte));

}  // namespace

glimpse_status fail(ErrorCode code, std::string_view message) noexcept {
  if (message.empty()) message = error_code_name(code);
  size_t n = std::min(message.size(), kMessageBytes - 1);
  if (n < message.size()) {
    while (n > 0 && (static_cast<unsigned char>(message[n]) & 0xC0) == 0x80) --n;  // whole characters
  }
  std::memcpy(last_error, message.data(), n);
  last_error[n] = '\0';
  return to_status(code);
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
  if (status < GLIMPSE_ERROR_INVALID_ARGUMENT || status > GLIMPSE_ERROR_BUSY) return "unknown status";
  return glimpse::error_code_name(static_cast<glimpse::ErrorCode>(static_cast<int>(status) - 1));
}

const char* glimpse_last_error(void) {
  return glimpse::capi::last_error;
}

const char* glimpse_finish_reason_name(glimpse_finish_reason reason) {
  if (reason == GLIMPSE_FINISH_NONE) return "none";
  return glimpse::finish_reason_name(static_cast<glimpse::FinishReason>(reason));
}

}  // extern "C"
