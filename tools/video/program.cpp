#include "tools/video/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

extern char** environ;

namespace glimpse::video {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostErrors = 4096;  // of standard error are kept

Error failed(const char* what, int code) {
  return make_error(ErrorCode::kIo, "cannot %s: %s", what, std::strerror(code));
}

void close_one(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

// A pipe whose ends no other program inherits.
struct Pipe {
  int read = -1, write = -1;
  Status open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return failed("make a pipe", errno);
    read = ends[0];
    write = ends[1];
    return {};
  }
  ~Pipe() {
    close_one(read);
    close_one(write);
  }
};

// posix_spawn's attributes: a process group of its own, no signal blocked or ignored.
class Setup {
 public:
  Setup(int out, int err) {
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~Setup() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

}  // namespace

Result<std::unique_ptr<Program>> Program::start(const std::string& name, const std::vector<std::string>& arguments,
                                                const Patience& patience) {
  Pipe out, err;
  GLIMPSE_TRY(out.open());
  GLIMPSE_TRY(err.open());
  std::vector<char*> argv = {const_cast<char*>(name.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::unique_ptr<Program> program(new Program());
  program->name_ = name;
  program->patience_ = patience;
  Setup setup(out.write, err.write);
  const int code = posix_spawnp(&program->pid_, name.c_str(), &setup.actions, &setup.attributes, argv.data(), environ);
  if (code != 0) {
    program->pid_ = -1;
    if (code == ENOENT) return make_error(ErrorCode::kNotFound, "there is no program %s", name);
    return failed(("start " + name).c_str(), code);
  }
  std::swap(program->out_, out.read);
  std::swap(program->err_, err.read);
  return program;
}

Program::~Program() {
  close_one(out_);
  close_one(err_);
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// Until there is something on standard output, or its end; standard error is emptied meanwhile, so that it cannot stop
// the program.
Status Program::wait_for_output() {
  const Clock::time_point begin = Clock::now();
  while (true) {
    if (patience_.cancel != nullptr && __atomic_load_n(patience_.cancel, __ATOMIC_RELAXED) != 0) {
      return make_error(ErrorCode::kCancelled, "cancelled while %s was at work", name_);
    }
    pollfd ends[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};  // a closed one is -1 and left out
    constexpr int kMilliseconds = 100;
    if (::poll(ends, 2, kMilliseconds) < 0 && errno != EINTR) return failed("wait for a program", errno);
    if (ends[1].revents != 0) {
      char buffer[1024];
      const ssize_t n = ::read(err_, buffer, sizeof buffer);
      if (n > 0) errors_.append(buffer, std::min(static_cast<size_t>(n), kMostErrors - errors_.size()));
      if (n == 0) close_one(err_);
    }
    if (ends[0].revents != 0 || (out_ < 0 && err_ < 0)) return {};
    if (patience_.total_seconds > 0 &&
        std::chrono::duration<double>(Clock::now() - started_).count() > patience_.total_seconds) {
      return make_error(ErrorCode::kIo, "%s took more than %.0f seconds", name_, patience_.total_seconds);
    }
    if (std::chrono::duration<double>(Clock::now() - begin).count() > patience_.idle_seconds) {
      return make_error(ErrorCode::kIo, "%s gave nothing for %.0f seconds", name_, patience_.idle_seconds);
    }
  }
}

Result<size_t> Program::read(std::span<std::byte> bytes) {
  size_t n = 0;
  while (n < bytes.size() && out_ >= 0) {
    GLIMPSE_TRY(wait_for_output());
    const ssize_t got = ::read(out_, bytes.data() + n, bytes.size() - n);
    if (got < 0 && errno != EINTR && errno != EAGAIN) return failed("read from a program", errno);
    if (got == 0) close_one(out_);
    if (got > 0) n += static_cast<size_t>(got);
  }
  return n;
}

Status Program::finish() {
  close_one(out_);
  while (err_ >= 0) GLIMPSE_TRY(wait_for_output());
  int status = 0;
  const Clock::time_point begin = Clock::now();
  while (true) {
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) break;
    if (ended < 0 && errno != EINTR) return failed("wait for a program", errno);
    if (std::chrono::duration<double>(Clock::now() - begin).count() > patience_.idle_seconds) {
      return make_error(ErrorCode::kIo, "%s does not end", name_);
    }
    ::poll(nullptr, 0, 5);
  }
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const std::string said = complaint();
  return make_error(ErrorCode::kIo, "%s failed%s%s", name_, said.empty() ? "" : ": ", said);
}

std::string Program::complaint() const {
  std::string line;
  for (const char c : errors_.substr(0, 400)) line += c == '\n' || c == '\r' ? ' ' : c;
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

}  // namespace glimpse::video
