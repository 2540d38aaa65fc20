#include "tools/serve/workers.h"

#include <exception>

namespace glimpse::serve {

bool Workers::start(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  if (ending_ || n_busy_ >= most_) return false;
  try {
    if (n_busy_ == threads_.size()) threads_.emplace_back([this] { work(); });
    jobs_.push_back(std::move(job));
  } catch (const std::exception&) {  // no thread, or no memory
    return false;
  }
  ++n_busy_;
  changed_.notify_one();
  return true;
}

void Workers::join() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Workers::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    {
      const std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
    }
    lock.lock();
    --n_busy_;
  }
}

}  // namespace glimpse::serve
