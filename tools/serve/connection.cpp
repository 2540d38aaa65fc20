#include "tools/serve/connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "tools/serve/api_error.h"

namespace glimpse::serve {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSlice{200};  // how long a wait may go on after the server is told to stop

}  // namespace

void Connection::Credit::earn(size_t n_bytes) {
  const std::chrono::duration<double> seconds(static_cast<double>(n_bytes) / static_cast<double>(speed_));
  left_ = std::min(most_, left_ + std::chrono::duration_cast<Clock::duration>(seconds));
}

Connection::Connection(int socket, const ConnectionLimits& limits, const std::atomic<bool>& stopping)
    : socket_(socket), limits_(limits), stopping_(stopping), reading_(limits), writing_(limits) {
  fcntl(socket_, F_SETFL, fcntl(socket_, F_GETFL) | O_NONBLOCK);
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const int buffer = 128 << 10;  // what a client does not read costs no more, and is noticed
  setsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
}

Connection::~Connection() {
  close(socket_);
}

bool Connection::wait(short events, Clock::time_point deadline) const {
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    pollfd waiting{socket_, events, 0};
    const int n = poll(&waiting, 1, static_cast<int>(std::min(left, kSlice).count()));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
    if (events == POLLIN && stopping_.load()) return false;
  }
}

ssize_t Connection::receive(char* bytes, size_t n, Clock::time_point deadline) {
  for (;;) {
    const ssize_t got = recv(socket_, bytes, n, 0);
    if (got >= 0) return got;
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return 0;
    if (!wait(POLLIN, deadline)) return -1;
  }
}

std::string Connection::read_head() {
  const Clock::time_point deadline = Clock::now() + limits_.head;
  std::string text;
  size_t looked_at = 0;
  for (;;) {
    char buffer[4096];
    const ssize_t n = receive(buffer, sizeof buffer, deadline);
    if (n == 0 || (n < 0 && text.empty())) return "";
    if (n < 0) throw ApiError(408, "the header lines took too long");
    text.append(buffer, static_cast<size_t>(n));
    // Who begins so waits for an answer before it says more.
    if (text[0] == '\x16')
      throw ApiError(400, "a TLS handshake came: this server speaks HTTP, its address is http://...");
    // A bare line feed may end the head, too, in the eyes of some: it is refused when the head is parsed.
    for (size_t i = text.find('\n', looked_at); i != std::string::npos; i = text.find('\n', i + 1)) {
      const std::string_view rest = std::string_view(text).substr(i + 1);
      const size_t n_end = rest.substr(0, 1) == "\n" ? 1 : rest.substr(0, 2) == "\r\n" ? 2 : 0;
      if (n_end == 0) continue;
      ahead_ = rest.substr(n_end);
      text.resize(i + 1 + n_end);
      if (text.size() > kMostHeadBytes) break;
      return text;
    }
    if (text.size() > kMostHeadBytes) throw ApiError(431, "the header lines are too long");
    looked_at = text.size() - std::min<size_t>(text.size(), 2);
  }
}

void Connection::begin_body(uint64_t n_bytes) {
  reading_ = Credit(limits_);
  if (ahead_.size() > n_bytes) ahead_.resize(n_bytes);
}

ssize_t Connection::read(char* bytes, size_t n) {
  if (!ahead_.empty()) {
    const size_t taken = std::min(n, ahead_.size());
    std::copy_n(ahead_.data(), taken, bytes);
    ahead_.erase(0, taken);
    return static_cast<ssize_t>(taken);
  }
  const Clock::time_point begin = Clock::now();
  const ssize_t got = receive(bytes, n, reading_.deadline());
  reading_.spend(Clock::now() - begin);
  if (got > 0) reading_.earn(static_cast<size_t>(got));
  return got;
}

bool Connection::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0) {
      has_written_ = true;
      writing_.earn(static_cast<size_t>(n));
      bytes.remove_prefix(static_cast<size_t>(n));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return false;
    const Clock::time_point begin = Clock::now();
    was_slow_ = !wait(POLLOUT, writing_.deadline());
    writing_.spend(Clock::now() - begin);
    if (was_slow_) return false;
  }
  return true;
}

bool Connection::has_left() const {
  pollfd waiting{socket_, POLLRDHUP, 0};
  return poll(&waiting, 1, 0) > 0 && (waiting.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Connection::finish() {
  if (was_slow_) {  // no use in waiting: what the kernel still has for it is dropped
    const linger now{1, 0};
    setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    return;
  }
  shutdown(socket_, SHUT_WR);
  const Clock::time_point deadline = Clock::now() + limits_.linger;
  char buffer[1 << 14];
  while (Clock::now() < deadline && receive(buffer, sizeof buffer, deadline) > 0) {
  }
}

}  // namespace glimpse::serve
