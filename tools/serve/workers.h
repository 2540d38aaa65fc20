// Threads for connections: made when they are needed, at most so many.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace glimpse::serve {

class Workers {
 public:
  explicit Workers(size_t most) : most_(most) {}
  ~Workers() { join(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// False, and nothing done: as many jobs as there may be threads, or no thread or memory to be had. job: throws
  /// nothing.
  bool start(std::function<void()> job);
  /// Waits for all jobs; none may be started any more.
  void join();

 private:
  void work();

  const size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  size_t n_busy_ = 0;  // with those in jobs_
  bool ending_ = false;
};

}  // namespace glimpse::serve
