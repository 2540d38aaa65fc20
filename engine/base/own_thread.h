// Threads that the library makes: named, and with the host's signals left to the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "engine/base/result.h"

namespace glimpse {

/// While it lives, threads that this one makes block all signals but those that tell of an error of the thread itself:
/// a host's handlers do not run on threads of ours, but blocking these would end the process without asking them.
class HostSignalsBlocked {
 public:
  HostSignalsBlocked();
  ~HostSignalsBlocked();
  HostSignalsBlocked(const HostSignalsBlocked&) = delete;
  HostSignalsBlocked& operator=(const HostSignalsBlocked&) = delete;

 private:
  static constexpr size_t kMaskBytes = 128;  // a sigset_t of Linux
  alignas(8) unsigned char before_[kMaskBytes] = {};
  bool masked_ = false;
};

/// Another one in a child process (fork) than in its parent; 0 everywhere where that cannot be told.
uint32_t process_number();

/// One thread. Joined or let go before it is destroyed. In a child process it does not exist: both do nothing there.
class OwnThread {
 public:
  OwnThread();
  OwnThread(OwnThread&& other) noexcept;
  OwnThread& operator=(OwnThread&& other) noexcept;
  ~OwnThread();
  /// name: at most 15 bytes. work must not throw. Errors: kOutOfMemory, with what the system said.
  static Result<OwnThread> start(const char* name, std::function<void()> work);
  /// Neither joined nor let go yet.
  explicit operator bool() const { return state_ != nullptr; }
  void join();
  void let_go();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Different for each thread that is alive; never nullptr.
const void* this_thread();

}  // namespace glimpse
