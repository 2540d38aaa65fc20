// Errors are values: Result<T> holds a T or an Error that says what is wrong in the user's words.
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "engine/base/format.h"

namespace glimpse {

/// What kind of thing went wrong; glimpse.h maps each to a status code of the C API.
enum class ErrorCode {
  kInvalidArgument,  // the caller passed something that makes no sense
  kNotFound,         // a file or key that does not exist
  kIo,               // the operating system refused a read or write
  kTruncated,        // the bytes end before the format says they may
  kCorrupt,          // the bytes contradict the format
  kUnsupported,      // well-formed, but a variant that glimpse does not implement
  kTooLarge,         // exceeds a limit set by the caller or by the format
  kMismatch,         // two files (or a file and a model) that do not belong together
  kOutOfMemory,      // an allocation that failed, or that the plan shows cannot succeed
  kContextFull,      // the prompt or the answer does not fit the context
  kCancelled,        // a callback asked to stop
  kNumeric,          // NaN or infinity where a finite number is needed
  kDevice,           // a device (CUDA) error
  kInternal,         // a broken invariant of glimpse itself
  kBusy,             // an object that another call is using
};

/// A code for programs and a message for people (names the file offset, tensor or layer where it can).
struct [[nodiscard]] Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

/// The short lower-case name of a code, e.g. "truncated".
const char* error_code_name(ErrorCode code);

/// An Error with a message as format() makes it.
template <typename... Args>
Error make_error(ErrorCode code, FormatString<std::type_identity_t<Args>...> text, const Args&... args) {
  return Error{code, format<Args...>(text, args...)};
}

/// A T or an Error. Converts to neither bool nor int: ask ok().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  /// Precondition: ok().
  T& value() & { return *std::get_if<0>(&state_); }
  const T& value() const& { return *std::get_if<0>(&state_); }
  T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }
  /// Precondition: !ok().
  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  bool ok() const { return !error_.has_value(); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

/// Prefixes the message of an error with where it happened: "model.gguf: truncated header".
Error with_context(Error error, const std::string& where);

}  // namespace glimpse

#define GLIMPSE_CONCAT_INNER(a, b) a##b
#define GLIMPSE_CONCAT(a, b) GLIMPSE_CONCAT_INNER(a, b)

/// Returns from the enclosing function with the error when `expr` (a Result) has one.
#define GLIMPSE_TRY(expr)                                                         \
  do {                                                                            \
    auto glimpse_try_result_ = (expr);                                            \
    if (!glimpse_try_result_.ok()) return std::move(glimpse_try_result_).error(); \
  } while (0)

/// `GLIMPSE_ASSIGN(auto x, f())`: x is the value of f(), or the enclosing function returns its error.
#define GLIMPSE_ASSIGN(declaration, expr) \
  GLIMPSE_ASSIGN_IMPL(GLIMPSE_CONCAT(glimpse_result_, __LINE__), declaration, expr)
#define GLIMPSE_ASSIGN_IMPL(result, declaration, expr) \
  auto result = (expr);                                \
  if (!result.ok()) return std::move(result).error();  \
  declaration = std::move(result).value()
