// Another program whose output is read as it comes: arguments as a list, never a shell.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::video {

/// What ends the wait for a program.
struct Patience {
  double idle_seconds = 60;              // without a byte from it
  double total_seconds = 0;              // from its start to its end; 0: as long as it takes
  const volatile int* cancel = nullptr;  // a flag of the caller's: not 0
};

class Program {
 public:
  /// name: a path, or looked for in PATH. Its standard input is empty. Errors: kNotFound (there is none), kIo.
  static Result<std::unique_ptr<Program>> start(const std::string& name, const std::vector<std::string>& arguments,
                                                const Patience& patience);
  /// Kills it, and what it started, if it still runs.
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Bytes of its standard output: as many as there is room for, fewer only at the end. Errors: kIo (no byte for too
  /// long), kCancelled.
  Result<size_t> read(std::span<std::byte> bytes);
  /// After the last byte: that it ended well. Errors: kIo with what it said on standard error; those of read().
  Status finish();
  /// What it said on standard error so far, as one line, at most a few hundred bytes.
  std::string complaint() const;

 private:
  Program() = default;
  Status wait_for_output();

  std::string name_, errors_;
  Patience patience_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  pid_t pid_ = -1;
  int out_ = -1, err_ = -1;  // our ends of the pipes
};

}  // namespace glimpse::video
