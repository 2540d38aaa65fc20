// Runs the glimpse command as a user does, and says everything about how it went.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace glimpse::cli_test {

struct RunResult {
  int exit_code = -1;  // -1: killed by a signal
  int signal = 0;
  double cpu_seconds = 0;  // user and system: says how much was done, whatever else the machine does
  long peak_kib = 0;       // resident memory
  std::string out, err;
};

struct RunSetup {
  std::string input;                     // given on standard input
  std::string stdout_path;               // standard output goes there instead of into RunResult::out
  bool on_terminal = false;              // standard output and error are one terminal; RunResult::out has what it got
  uint64_t file_size_limit = 0;          // bytes; 0: none
  double timeout_seconds = 60;           // then it is killed (signal 9 in the result)
  std::vector<std::string> environment;  // NAME=value, added to this process's own
  /// Called with its process id about every millisecond while it runs.
  std::function<void(pid_t)> while_running;
};

/// Runs the glimpse binary with these arguments.
RunResult run_glimpse(const std::vector<std::string>& arguments, const RunSetup& setup = {});

/// A directory of its own for a test, removed with everything in it.
class ScratchDir {
 public:
  ScratchDir();
  ~ScratchDir();
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& bytes) const;
  /// Names of what lies in it, sorted.
  std::vector<std::string> list() const;

 private:
  std::string path_;
};

std::string read_all(const std::string& path);

/// The golden pair "tied".
/// Size of the file that process `pid` holds open under `folder`, which need not have a name yet; -1: none.
int64_t open_file_size(pid_t pid, const std::string& folder);

inline std::string golden(const char* name) {
  return std::string(GLIMPSE_TEST_DIR "/golden/") + name;
}

}  // namespace glimpse::cli_test
