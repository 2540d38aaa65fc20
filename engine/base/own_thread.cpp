#include "engine/base/own_thread.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstring>
#include <utility>

namespace glimpse {
namespace {

std::atomic<uint32_t> fork_count{1};
// Without the handler a child could not tell.
const bool forks_are_counted =
    pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1, std::memory_order_relaxed); }) == 0;

}  // namespace

uint32_t process_number() {
  return forks_are_counted ? fork_count.load(std::memory_order_relaxed) : 0;
}

HostSignalsBlocked::HostSignalsBlocked() {
  static_assert(sizeof(sigset_t) <= kMaskBytes);
  sigset_t set, before;
  sigfillset(&set);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&set, signal);
  masked_ = pthread_sigmask(SIG_BLOCK, &set, &before) == 0;
  if (masked_) std::memcpy(before_, &before, sizeof before);
}

HostSignalsBlocked::~HostSignalsBlocked() {
  if (!masked_) return;
  sigset_t before;
  std::memcpy(&before, before_, sizeof before);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

struct OwnThread::State {
  pthread_t thread{};
  uint32_t process = process_number();
  bool is_here() const { return process == process_number(); }
};

OwnThread::OwnThread() = default;
OwnThread::OwnThread(OwnThread&& other) noexcept = default;
OwnThread& OwnThread::operator=(OwnThread&& other) noexcept = default;
OwnThread::~OwnThread() = default;

Result<OwnThread> OwnThread::start(const char* name, std::function<void()> work) {
  OwnThread own;
  own.state_ = std::make_unique<State>();
  auto argument = std::make_unique<std::function<void()>>(std::move(work));
  const HostSignalsBlocked blocked;
  const int error = pthread_create(
      &own.state_->thread, nullptr,
      [](void* given) -> void* {
        const std::unique_ptr<std::function<void()>> mine(static_cast<std::function<void()>*>(given));
        (*mine)();
        return nullptr;
      },
      argument.get());
  if (error != 0) return make_error(ErrorCode::kOutOfMemory, "no thread is to be had: %s", std::strerror(error));
  (void)argument.release();  // the thread's now
  pthread_setname_np(own.state_->thread, name);
  return own;
}

void OwnThread::join() {
  if (state_ != nullptr && state_->is_here()) pthread_join(state_->thread, nullptr);
  state_.reset();
}

void OwnThread::let_go() {
  if (state_ != nullptr && state_->is_here()) pthread_detach(state_->thread);
  state_.reset();
}

const void* this_thread() {
  static thread_local char token = 0;
  return &token;
}

}  // namespace glimpse
