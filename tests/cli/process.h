// Runs the glimpse command as a user does, and says everything about how it went.
#pragma once

#include <sys/types.h>

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tests/base/scratch_dir.h"

namespace glimpse::cli_test {

using nlohmann::json;

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

/// Its standard output as JSON; fails the test where the exit status is another or the text is neither object nor
/// array.
nlohmann::json json_of(const RunResult& result, int exit_code = 0);

/// Becomes the glimpse command, in a process that was just forked; signals do what they do by default.
[[noreturn]] void exec_glimpse(const std::vector<std::string>& arguments, std::vector<std::string> environment);

/// Arguments of a command that writes a large file there.
using WritingCommand = std::function<std::vector<std::string>(const std::string& path)>;
/// Interrupts it by each signal when it has written more than `least` bytes and less than `most`.
void expect_signals_leave_nothing(const WritingCommand& command, int64_t least, int64_t most);
void expect_a_full_disk_leaves_nothing(const WritingCommand& command);

/// Size of the file that process `pid` holds open under `folder`, which need not have a name yet; -1: none.
int64_t open_file_size(pid_t pid, const std::string& folder);

/// A small picture.
inline const std::string kPicture = GLIMPSE_TEST_DIR "/loaders/data/image/png_rgb8.png";

/// A file of the golden models: "tied/model.gguf".
inline std::string golden(const char* name) {
  return std::string(GLIMPSE_TEST_DIR "/golden/") + name;
}

}  // namespace glimpse::cli_test
