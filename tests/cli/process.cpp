#include "tests/cli/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using Clock = std::chrono::steady_clock;

struct Pipe {
  int ends[2] = {-1, -1};
  /// terminal: what is written to it went through a pseudo-terminal.
  explicit Pipe(bool terminal = false) {
    if (terminal) {
      ends[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
      if (ends[0] < 0 || grantpt(ends[0]) != 0 || unlockpt(ends[0]) != 0) throw std::runtime_error("posix_openpt");
      ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
      if (ends[1] < 0) throw std::runtime_error("ptsname");
      return;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_read();
    close_write();
  }
  void close_read() { close_end(ends[0]); }
  void close_write() { close_end(ends[1]); }
  static void close_end(int& end) {
    if (end >= 0) close(end);
    end = -1;
  }
};

[[noreturn]] void become(const std::vector<std::string>& arguments, const RunSetup& setup, const Pipe& in,
                         const Pipe& out, const Pipe& err) {
  const int to_file =
      setup.stdout_path.empty() ? -1 : open(setup.stdout_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  dup2(in.ends[0], STDIN_FILENO);
  dup2(to_file >= 0 ? to_file : out.ends[1], STDOUT_FILENO);
  dup2(setup.on_terminal ? out.ends[1] : err.ends[1], STDERR_FILENO);
  if (setup.file_size_limit > 0) {
    const rlimit limit{setup.file_size_limit, setup.file_size_limit};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  exec_glimpse(arguments, setup.environment);
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

// Moves what has arrived; false at the end of the pipe.
bool drain(int descriptor, std::string& text) {
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = read(descriptor, buffer, sizeof buffer);
    if (n > 0) {
      text.append(buffer, static_cast<size_t>(n));
      continue;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
  }
}

}  // namespace

void exec_glimpse(const std::vector<std::string>& arguments, std::vector<std::string> environment) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGXFSZ, SIGPIPE}) ::signal(signal, SIG_DFL);
  for (std::string& variable : environment) putenv(variable.data());  // which keeps the pointers
  std::vector<char*> argv{const_cast<char*>(GLIMPSE_BINARY)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(GLIMPSE_BINARY, argv.data());
  _exit(127);
}

RunResult run_glimpse(const std::vector<std::string>& arguments, const RunSetup& setup) {
  Pipe in, out(setup.on_terminal), err;
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("fork");
  if (pid == 0) become(arguments, setup, in, out, err);
  in.close_read();
  out.close_write();
  err.close_write();
  ::signal(SIGPIPE, SIG_IGN);
  // Inputs of the tests fit the pipe.
  if (!setup.input.empty() && write(in.ends[1], setup.input.data(), setup.input.size()) < 0) errno = 0;
  in.close_write();
  for (const int descriptor : {out.ends[0], err.ends[0]}) fcntl(descriptor, F_SETFL, O_NONBLOCK);

  RunResult result;
  const Clock::time_point start = Clock::now();
  bool out_open = true, err_open = true;
  while (out_open || err_open) {
    pollfd waiting[2] = {{out_open ? out.ends[0] : -1, POLLIN, 0}, {err_open ? err.ends[0] : -1, POLLIN, 0}};
    poll(waiting, 2, setup.while_running ? 1 : 100);
    if (out_open) out_open = drain(out.ends[0], result.out);
    if (err_open) err_open = drain(err.ends[0], result.err);
    if (setup.while_running) setup.while_running(pid);
    if (std::chrono::duration<double>(Clock::now() - start).count() > setup.timeout_seconds) {
      kill(pid, SIGKILL);
      break;
    }
  }
  int status = 0;
  rusage usage{};
  wait4(pid, &status, 0, &usage);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  result.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  result.peak_kib = usage.ru_maxrss;
  return result;
}

nlohmann::json json_of(const RunResult& result, int exit_code) {
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  json parsed = json::parse(result.out, nullptr, false);
  EXPECT_TRUE(parsed.is_structured()) << result.out;
  return parsed.is_structured() ? parsed : json::object();
}

void expect_signals_leave_nothing(const WritingCommand& command, int64_t least, int64_t most) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const ScratchDir dir;
    bool sent = false;
    RunSetup setup;
    setup.while_running = [&](pid_t pid) {
      if (sent) return;
      const int64_t size = open_file_size(pid, dir.path());
      if (size > least && size < most) sent = kill(pid, signal) == 0;
    };
    const RunResult result = run_glimpse(command(dir.file("large.gguf")), setup);
    ASSERT_TRUE(sent) << "it was done before it could be interrupted";
    EXPECT_EQ(result.exit_code, 128 + signal) << result.err;
    EXPECT_THAT(result.err, HasSubstr("cancelled"));
    EXPECT_THAT(dir.list(), IsEmpty()) << strsignal(signal);
  }
}

void expect_a_full_disk_leaves_nothing(const WritingCommand& command) {
  const ScratchDir dir;
  RunSetup setup;
  setup.file_size_limit = 1 << 20;  // the write that passes it fails, as on a full disk
  const RunResult result = run_glimpse(command(dir.file("large.gguf")), setup);
  EXPECT_EQ(result.exit_code, 1) << "signal " << result.signal << ": " << result.err;
  EXPECT_THAT(result.err, HasSubstr("large.gguf"));
  EXPECT_THAT(dir.list(), IsEmpty());
}

int64_t open_file_size(pid_t pid, const std::string& folder) {
  std::error_code error;
  int64_t size = -1;
  const std::filesystem::path real = std::filesystem::canonical(folder, error);
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    if (error || target.rfind(real.string() + "/", 0) != 0) continue;
    struct stat info;
    if (stat(entry.path().c_str(), &info) == 0) size = std::max<int64_t>(size, info.st_size);
  }
  return size;
}

}  // namespace glimpse::cli_test
