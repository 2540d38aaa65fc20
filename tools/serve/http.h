// Requests and responses between the connections and what answers them.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/serve/http_head.h"

namespace glimpse::serve {

struct HttpRequest {
  HttpHead head;
  std::string body;
};

/// Sends a piece of a stream; false: the client is gone, or reads too slowly.
using StreamWriter = std::function<bool(std::string_view piece)>;

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> fields;
  /// When set, the body comes from it, in chunks.
  std::function<void(const StreamWriter& write)> stream;
};

/// Who waits at the other end of the connection.
class HttpClient {
 public:
  virtual ~HttpClient() = default;
  /// It hung up. Costs a system call.
  virtual bool has_left() const = 0;
};

/// Called by several threads at once.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// Looks at the head before the body is read. Throws ApiError.
  virtual void admit(const HttpHead& head) = 0;
  /// Throws nothing but, where there is no memory for a word about it, std::bad_alloc.
  virtual HttpResponse handle(HttpRequest request, const HttpClient& client) = 0;
  /// An error that ended a request before handle().
  virtual HttpResponse refuse(const HttpHead& head, const struct ApiError& error) = 0;

  enum class Event { kConnectionRefused, kSlowReader };
  virtual void note(Event event) = 0;
};

}  // namespace glimpse::serve
