// Runs another program: arguments as a list (never a shell), a time limit, its output and what it used.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::compare {

struct ProcessResult {
  int exit_code = -1;  // -1: ended by a signal
  int signal = 0;
  bool timed_out = false;
  double wall_seconds = 0;
  double cpu_seconds = 0;     // user and system
  double peak_rss_bytes = 0;  // resident memory at its highest
  std::string out, err;       // at most kMostOutput bytes each
};
constexpr size_t kMostOutput = size_t{64} << 20;

/// program: a path. cancelled: asked a few times per second; true ends the program. Its standard input is empty; after
/// the time limit, or when cancelled, its process group is killed.
/// Errors: kIo (cannot be started), kCancelled.
Result<ProcessResult> run_process(const std::string& program, const std::vector<std::string>& arguments,
                                  double timeout_seconds, const std::function<bool()>& cancelled);

}  // namespace glimpse::compare
