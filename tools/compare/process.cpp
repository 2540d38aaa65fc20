#include "tools/compare/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace glimpse::compare {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPollMs = 50;

// A pipe whose ends close themselves.
class Pipe {
 public:
  Pipe() = default;
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_read();
    close_write();
  }
  bool open() { return pipe2(ends_, O_CLOEXEC) == 0; }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void close_read() { close_end(0); }
  void close_write() { close_end(1); }

 private:
  void close_end(int i) {
    if (ends_[i] >= 0) close(ends_[i]);
    ends_[i] = -1;
  }
  int ends_[2] = {-1, -1};
};

// Takes what there is. False at the end of the stream.
bool drain(int descriptor, std::string& text) {
  char buffer[65536];
  const ssize_t n = read(descriptor, buffer, sizeof buffer);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) return false;
  if (text.size() < kMostOutput) text.append(buffer, static_cast<size_t>(n));
  return true;
}

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
}

// In the child: only calls that are safe between fork and exec.
[[noreturn]] void become(const char* program, char* const* arguments, int out, int err, int failure) {
  setpgid(0, 0);
  const int empty = open("/dev/null", O_RDONLY);
  if (empty >= 0 && dup2(empty, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0) {
    signal(SIGPIPE, SIG_DFL);
    execv(program, arguments);
  }
  const int code = errno;
  (void)!write(failure, &code, sizeof code);
  _exit(127);
}

}  // namespace

Result<ProcessResult> run_process(const std::string& program, const std::vector<std::string>& arguments,
                                  double timeout_seconds, const std::function<bool()>& cancelled) {
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  Pipe out, err, failure;
  if (!out.open() || !err.open() || !failure.open()) {
    return make_error(ErrorCode::kIo, "no pipes for %s: %s", program, std::strerror(errno));
  }
  const auto start = Clock::now();
  const pid_t child = fork();
  if (child < 0) return make_error(ErrorCode::kIo, "cannot start %s: %s", program, std::strerror(errno));
  if (child == 0) become(program.c_str(), argv.data(), out.write_end(), err.write_end(), failure.write_end());
  setpgid(child, child);  // here too: whichever comes first
  out.close_write();
  err.close_write();
  failure.close_write();

  ProcessResult result;
  bool stopped = false, was_cancelled = false;
  bool open_streams[2] = {true, true};
  int status = 0;
  rusage usage{};
  bool ended = false;
  // Streams may stay open in a grandchild after the program ended; then what has arrived is what there is.
  while (!ended || open_streams[0] || open_streams[1]) {
    pollfd watched[2] = {{open_streams[0] ? out.read_end() : -1, POLLIN, 0},
                         {open_streams[1] ? err.read_end() : -1, POLLIN, 0}};
    const int n = poll(watched, 2, ended ? 0 : kPollMs);
    std::string* const texts[2] = {&result.out, &result.err};
    for (int i = 0; i < 2; ++i) {
      if (n > 0 && watched[i].revents != 0) open_streams[i] = drain(watched[i].fd, *texts[i]);
    }
    if (ended && n <= 0) break;
    if (!ended && wait4(child, &status, WNOHANG, &usage) == child) {
      ended = true;
      result.wall_seconds = std::chrono::duration<double>(Clock::now() - start).count();
    }
    if (ended || stopped) continue;
    was_cancelled = cancelled && cancelled();
    result.timed_out = std::chrono::duration<double>(Clock::now() - start).count() > timeout_seconds;
    if (was_cancelled || result.timed_out) {
      kill(-child, SIGKILL);
      stopped = true;
    }
  }
  int code = 0;
  if (read(failure.read_end(), &code, sizeof code) == static_cast<ssize_t>(sizeof code)) {
    return make_error(ErrorCode::kIo, "cannot start %s: %s", program, std::strerror(code));
  }
  if (was_cancelled) return make_error(ErrorCode::kCancelled, "interrupted");
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  result.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  result.peak_rss_bytes = 1024.0 * static_cast<double>(usage.ru_maxrss);
  return result;
}

}  // namespace glimpse::compare
