// Signals are the host's affair: its handlers do not run on threads of ours.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace glimpse {

/// While it lives, threads that this one makes block all signals but those that tell of an error of the thread itself:
/// blocking these would end the process without asking the host's handlers.
class HostSignalsBlocked {
 public:
  HostSignalsBlocked() {
    sigset_t set;
    sigfillset(&set);
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&set, signal);
    masked_ = pthread_sigmask(SIG_BLOCK, &set, &before_) == 0;
  }
  ~HostSignalsBlocked() {
    if (masked_) pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  HostSignalsBlocked(const HostSignalsBlocked&) = delete;
  HostSignalsBlocked& operator=(const HostSignalsBlocked&) = delete;

 private:
  sigset_t before_;
  bool masked_ = false;
};

}  // namespace glimpse
