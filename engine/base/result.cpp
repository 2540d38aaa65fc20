#include "engine/base/result.h"

#include <cstdarg>
#include <cstdio>

namespace glimpse {
namespace {

std::string vformat(const char* format, va_list args) {
  va_list again;
  va_copy(again, args);
  const int length = std::vsnprintf(nullptr, 0, format, args);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  if (length > 0) std::vsnprintf(text.data(), text.size() + 1, format, again);
  va_end(again);
  return text;
}

}  // namespace

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kNotFound:
      return "not found";
    case ErrorCode::kIo:
      return "input/output error";
    case ErrorCode::kTruncated:
      return "truncated";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kTooLarge:
      return "too large";
    case ErrorCode::kMismatch:
      return "mismatch";
    case ErrorCode::kOutOfMemory:
      return "out of memory";
    case ErrorCode::kContextFull:
      return "context full";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kNumeric:
      return "not a finite number";
    case ErrorCode::kDevice:
      return "device error";
    case ErrorCode::kInternal:
      return "internal error";
  }
  return "unknown error";
}

Error make_error(ErrorCode code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  Error error{code, vformat(format, args)};
  va_end(args);
  return error;
}

std::string format(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string text = vformat(format, args);
  va_end(args);
  return text;
}

Error with_context(Error error, const std::string& where) {
  error.message = where + ": " + error.message;
  return error;
}

}  // namespace glimpse
