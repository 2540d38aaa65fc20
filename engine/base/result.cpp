#include "engine/base/result.h"

namespace glimpse {
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
    case ErrorCode::kBusy:
      return "busy";
  }
  return "unknown error";
}

Error with_context(Error error, const std::string& where) {
  error.message = where + ": " + error.message;
  return error;
}

}  // namespace glimpse
