#include "tools/compare/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace glimpse::compare {

Result<std::unique_ptr<ServerProcess>> ServerProcess::start(const std::string& program,
                                                            const std::vector<std::string>& arguments) {
  if (access(program.c_str(), X_OK) != 0) {
    return make_error(ErrorCode::kIo, "cannot start %s: %s", program, std::strerror(errno));
  }
  std::unique_ptr<ServerProcess> server(new ServerProcess);
  server->log_ = memfd_create("server", MFD_CLOEXEC);
  const int empty = open("/dev/null", O_RDONLY | O_CLOEXEC);
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = server->log_ < 0 || empty < 0 ? -1 : fork();
  if (child == 0) {  // only calls that are safe between fork and exec
    setpgid(0, 0);
    if (dup2(empty, STDIN_FILENO) >= 0 && dup2(server->log_, STDOUT_FILENO) >= 0 &&
        dup2(server->log_, STDERR_FILENO) >= 0) {
      execv(program.c_str(), argv.data());
    }
    _exit(127);
  }
  const int why = errno;
  if (empty >= 0) close(empty);
  if (child < 0) return make_error(ErrorCode::kIo, "cannot start %s: %s", program, std::strerror(why));
  setpgid(child, child);  // here too: whichever comes first
  server->pid_ = child;
  return server;
}

ServerProcess::~ServerProcess() {
  stop();
  if (log_ >= 0) close(log_);
}

// Whether it has ended.
bool ServerProcess::wait(int options) {
  if (pid_ < 0) return true;
  int status = 0;
  rusage usage{};
  if (wait4(pid_, &status, options, &usage) != pid_) return false;
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  cpu_seconds_ = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  kill(-pid_, SIGKILL);  // whoever it left behind
  pid_ = -1;
  return true;
}

bool ServerProcess::runs() {
  return !wait(WNOHANG);
}

double ServerProcess::stop() {
  if (pid_ >= 0) kill(-pid_, SIGTERM);
  for (int i = 0; i < 250 && !wait(WNOHANG); ++i) usleep(20000);
  if (pid_ >= 0) kill(-pid_, SIGKILL);
  wait(0);
  return cpu_seconds_;
}

std::string ServerProcess::said() const {
  const off_t size = lseek(log_, 0, SEEK_END);
  std::string text(static_cast<size_t>(std::clamp<off_t>(size, 0, 600)), '\0');
  const ssize_t n = pread(log_, text.data(), text.size(), size - static_cast<off_t>(text.size()));
  text.resize(static_cast<size_t>(std::max<ssize_t>(n, 0)));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') c = ' ';
  }
  return text;
}

Result<int> free_port() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool found = listener >= 0 && bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                     getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  const int why = errno;
  if (listener >= 0) close(listener);
  if (!found) return make_error(ErrorCode::kIo, "no port for a server: %s", std::strerror(why));
  return ntohs(address.sin_port);
}

}  // namespace glimpse::compare
