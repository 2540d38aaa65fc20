// What goes wrong with a client's request, in the shape that OpenAI's clients know.
#pragma once

#include <exception>
#include <string>

#include "engine/base/result.h"

namespace glimpse::serve {

/// Thrown while a request is read, and answered as {"error": {message, type, param, code}}.
struct ApiError : std::exception {
  ApiError(int http_status, std::string text, std::string parameter = "", std::string error_code = "")
      : status(http_status), message(std::move(text)), param(std::move(parameter)), code(std::move(error_code)) {}
  const char* what() const noexcept override { return message.c_str(); }

  int status;  // of HTTP
  std::string message;
  std::string param;      // path of the field, "messages[0].content[1]"; "": none
  std::string code;       // "context_length_exceeded", ...; "": none
  int retry_after_s = 0;  // 0: no such header
  std::string allow;      // methods, of a 405
};

/// What an error of the engine is to a client.
ApiError api_error(const Error& error);
/// The body: one line of JSON.
std::string error_body(const ApiError& error);

}  // namespace glimpse::serve
