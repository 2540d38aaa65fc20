// A socket with a client that may be slow, silent, or gone: everything has a deadline.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "tools/serve/http.h"

namespace glimpse::serve {

struct ConnectionLimits {
  std::chrono::milliseconds head{10000};   // from connecting to the end of the header lines
  std::chrono::milliseconds stall{10000};  // how long we wait, at most, for what comes or goes at the least speed
  uint64_t least_speed = 16 << 10;         // bytes per second of bodies and responses
  std::chrono::milliseconds linger{2000};  // for a client that is still sending when it has its answer
};

class Connection : public HttpClient {
 public:
  using Clock = std::chrono::steady_clock;

  /// stopping: while it is true nothing more is read. Takes the socket.
  Connection(int socket, const ConnectionLimits& limits, const std::atomic<bool>& stopping);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// The head with its empty line, at most kMostHeadBytes of it; "": the client sent nothing, or left. What came behind
  /// it stays for read(). Throws ApiError 408 or 431.
  std::string read_head();
  /// Begins a body of so many bytes.
  void begin_body(uint64_t n_bytes);
  /// At least one byte; 0: the client left, -1: too slow.
  ssize_t read(char* bytes, size_t n);
  /// All of it, or false: the client left or is too slow.
  bool write(std::string_view bytes);
  /// Whether it got a byte of ours.
  bool has_written() const { return has_written_; }
  bool has_left() const override;
  bool was_slow() const { return was_slow_; }
  /// Lets the client read its answer before the socket goes: what it still sends is read and dropped for a while.
  void finish();
  int socket() const { return socket_; }

 private:
  /// How long a client may keep us waiting: it wins a second with each least_speed bytes, but never has more than
  /// `stall`, however much it sent or took before.
  class Credit {
   public:
    explicit Credit(const ConnectionLimits& limits)
        : most_(limits.stall), speed_(limits.least_speed), left_(limits.stall) {}
    Clock::time_point deadline() const { return Clock::now() + left_; }
    void earn(size_t n_bytes);
    void spend(Clock::duration waited) { left_ -= waited; }

   private:
    Clock::duration most_;
    uint64_t speed_;
    Clock::duration left_;
  };

  bool wait(short events, Clock::time_point deadline) const;
  ssize_t receive(char* bytes, size_t n, Clock::time_point deadline);

  const int socket_;
  const ConnectionLimits limits_;
  const std::atomic<bool>& stopping_;
  std::string ahead_;  // read behind the head
  Credit reading_, writing_;
  bool was_slow_ = false, has_written_ = false;
};

}  // namespace glimpse::serve
