// Sockets, threads and HTTP under cpp-httplib; every connection carries one request.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/base/result.h"
#include "tools/serve/connection.h"
#include "tools/serve/http.h"

namespace glimpse::serve {

struct ListenerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: any that is free
  int max_connections = 64;
  uint64_t max_body = uint64_t{64} << 20;     // bytes of one request
  uint64_t max_bodies = uint64_t{256} << 20;  // of all that are under way together
  ConnectionLimits connection;
};

class Listener {
 public:
  ~Listener();
  /// From here on clients may connect; they wait until run(). handler: outlives the listener. Errors: kInvalidArgument
  /// (no such address), kIo (the port is taken, ...).
  static Result<std::unique_ptr<Listener>> create(const ListenerOptions& options, HttpHandler& handler);
  int port() const;
  /// Serves until stop(); returns when the last connection is done.
  void run();
  /// From any thread: no further connections; requests that were read whole are answered.
  void stop();

 private:
  struct Impl;
  explicit Listener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace glimpse::serve
