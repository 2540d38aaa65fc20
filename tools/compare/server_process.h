// A server of one of the engines: started, left alone, ended.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::compare {

class ServerProcess {
 public:
  /// program: a path. What it prints is kept for messages. Errors: kIo.
  static Result<std::unique_ptr<ServerProcess>> start(const std::string& program,
                                                      const std::vector<std::string>& arguments);
  /// Ends it, with its process group.
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  bool runs();
  /// Asks it to end, waits five seconds, kills it; CPU seconds that it took.
  double stop();
  /// The end of what it printed.
  std::string said() const;

 private:
  ServerProcess() = default;
  bool wait(int options);

  pid_t pid_ = -1;
  int log_ = -1;
  double cpu_seconds_ = 0;
};

/// A port of 127.0.0.1 that was free a moment ago. Errors: kIo.
Result<int> free_port();

}  // namespace glimpse::compare
