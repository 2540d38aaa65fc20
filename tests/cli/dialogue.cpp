#include "tests/cli/dialogue.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>

#include "tests/cli/process.h"

namespace glimpse::cli_test {

Dialogue::Dialogue(const std::vector<std::string>& arguments, Over over, const std::vector<std::string>& environment) {
  ::signal(SIGPIPE, SIG_IGN);
  int in[2] = {-1, -1}, out[2] = {-1, -1};
  if (over == Over::kTerminal) {
    from_ = to_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (from_ < 0 || grantpt(from_) != 0 || unlockpt(from_) != 0) throw std::runtime_error("posix_openpt");
  } else {
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    to_ = in[1];
    from_ = out[0];
  }
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ == 0) {
    if (over == Over::kTerminal) {
      setsid();  // the terminal below becomes its own: Ctrl-C reaches it
      in[0] = out[1] = open(ptsname(from_), O_RDWR);
      ioctl(in[0], TIOCSCTTY, 0);
      const winsize size{40, 200, 0, 0};
      ioctl(in[0], TIOCSWINSZ, &size);
    }
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(out[1], STDERR_FILENO);
    exec_glimpse(arguments, environment);
  }
  for (const int end : {in[0], out[1]}) {
    if (end >= 0) close(end);
  }
}

Dialogue::~Dialogue() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  end_input();
  if (from_ >= 0) close(from_);
}

void Dialogue::send(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t n = write(to_, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // it has gone: the test will see
    at += static_cast<size_t>(n);
  }
}

void Dialogue::end_input() {
  if (to_ >= 0 && to_ != from_) close(to_);
  if (to_ == from_ && to_ >= 0 && pid_ > 0) send("\x04");
  to_ = -1;
}

bool Dialogue::read_more(int timeout_ms) {
  pollfd waiting{from_, POLLIN, 0};
  if (poll(&waiting, 1, timeout_ms) <= 0) return false;
  char buffer[4096];
  const ssize_t n = read(from_, buffer, sizeof buffer);
  if (n <= 0) return false;  // a terminal that nobody has open gives an error
  said_.append(buffer, static_cast<size_t>(n));
  return true;
}

bool Dialogue::hears(const std::string& text) {
  for (;;) {
    const size_t at = said_.find(text, heard_);
    if (at != std::string::npos) {
      heard_ = at + text.size();
      return true;
    }
    if (!read_more(20000)) return false;
  }
}

int Dialogue::finish() {
  while (read_more(20000)) {
  }
  int status = 0;
  // One that says nothing and does not end is ended: a test fails then, and does not hang.
  for (int i = 0; waitpid(pid_, &status, WNOHANG) == 0; ++i) {
    if (i == 200) kill(pid_, SIGKILL);
    poll(nullptr, 0, 10);
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace glimpse::cli_test
