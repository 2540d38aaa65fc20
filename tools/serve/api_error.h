// What goes wrong with a client's request, in the shape that OpenAI's clients know.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::serve {

/// Thrown while a request is read, and answered as {"error": {message, type, param, code}}.
struct ApiError : std::exception {
  ApiError(int http_status, std::string text, std::string parameter = "", std::string error_code = "")
      : status(http_status), message(std::move(text)), param(std::move(parameter)), code(std::move(error_code)) {}
  const char* what() const noexcept override { return message.c_str(); }

  int status;  // of HTTP
  std::string message;
  std::string param;                       // path of the field, "messages[0].content[1]"; "": none
  std::string code;                        // "context_length_exceeded", ...; "": none
  int retry_after_s = 0;                   // 0: no such header
  std::string allow;                       // methods, of a 405
  std::string type;                        // "": that of the status
  int64_t n_prompt_tokens = 0, n_ctx = 0;  // of a prompt that the context does not hold
};

/// What an error of the engine is to a client.
ApiError api_error(const Error& error);
/// It closed its side of the connection. Most who do have gone; others still read.
ApiError client_left();
/// The engine counts pictures ("picture 2: ..."); clients want to know the part. paths: of all pictures of the request.
void place_picture_error(const std::vector<std::string>& paths, ApiError& error);
/// The body: one line of JSON.
std::string error_body(const ApiError& error);

}  // namespace glimpse::serve
