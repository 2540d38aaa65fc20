#include "engine/base/result.h"

#include "engine/base/enum_names.h"

namespace glimpse {
const char* error_code_name(ErrorCode code) {
  constexpr const char* kNames[] = {
      "invalid argument", "not found",           "input/output error", "truncated",      "corrupt",
      "unsupported",      "too large",           "mismatch",           "out of memory",  "context full",
      "cancelled",        "not a finite number", "device error",       "internal error", "busy"};
  return enum_name<ErrorCode::kBusy>(kNames, code, "unknown error");
}

Error with_context(Error error, const std::string& where) {
  error.message = where + ": " + error.message;
  return error;
}

}  // namespace glimpse
