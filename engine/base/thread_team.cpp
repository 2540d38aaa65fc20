#include "engine/base/thread_team.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#if GLIMPSE_USE_OPENMP
#include <omp.h>
#endif

namespace glimpse {
namespace {

// About 20 microseconds on a 3 GHz core: longer than the gap between two phases of a decode step, shorter than
// anybody would notice as waste.
constexpr int kSpins = 2000;

// Waits until `value` differs from `old`: spins, then sleeps in the kernel.
void wait_for_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    __builtin_ia32_pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

#if GLIMPSE_USE_OPENMP

struct ThreadTeam::Pool {};

ThreadTeam::ThreadTeam(int n_threads) : n_threads_(std::max(1, n_threads)) {}
ThreadTeam::~ThreadTeam() = default;

void ThreadTeam::pass(FunctionRef<void()> driver) {
  if (in_pass_ || n_threads_ == 1) {
    driver();
    return;
  }
  std::exception_ptr failure;  // an exception must not leave an OpenMP region
  const uint32_t first_epoch = epoch_.load(std::memory_order_relaxed);
#pragma omp parallel num_threads(n_threads_)
  {
    const int thread = omp_get_thread_num();
    if (thread == 0) {
      granted_ = omp_get_num_threads();
      try {
        run_driver(driver);
      } catch (...) {
        failure = std::current_exception();
      }
    } else {
      worker_loop(thread, first_epoch);
    }
  }
  if (failure) std::rethrow_exception(failure);
}

#else

struct ThreadTeam::Pool {
  std::vector<std::thread> threads;
  std::atomic<uint32_t> passes{0};  // counts passes; workers sleep on it between them
  std::atomic<uint32_t> left{0};    // workers that are out of the current pass
  std::atomic<bool> stop{false};
  uint32_t first_epoch = 0;
};

ThreadTeam::ThreadTeam(int n_threads) : n_threads_(std::max(1, n_threads)) {
  if (n_threads_ == 1) return;
  pool_ = std::make_unique<Pool>();
  for (int i = 1; i < n_threads_; ++i) {
    pool_->threads.emplace_back([this, i] {
      for (uint32_t seen = 0;;) {
        wait_for_change(pool_->passes, seen);
        seen = pool_->passes.load(std::memory_order_acquire);
        if (pool_->stop.load(std::memory_order_acquire)) return;
        worker_loop(i, pool_->first_epoch);
        pool_->left.fetch_add(1, std::memory_order_release);
        pool_->left.notify_all();
      }
    });
  }
}

ThreadTeam::~ThreadTeam() {
  if (!pool_) return;
  pool_->stop.store(true, std::memory_order_release);
  pool_->passes.fetch_add(1, std::memory_order_release);
  pool_->passes.notify_all();
  for (std::thread& thread : pool_->threads) thread.join();
}

void ThreadTeam::pass(FunctionRef<void()> driver) {
  if (in_pass_ || n_threads_ == 1) {
    driver();
    return;
  }
  granted_ = n_threads_;
  pool_->first_epoch = epoch_.load(std::memory_order_relaxed);
  pool_->left.store(0, std::memory_order_relaxed);
  pool_->passes.fetch_add(1, std::memory_order_release);
  pool_->passes.notify_all();
  std::exception_ptr failure;
  try {
    run_driver(driver);
  } catch (...) {
    failure = std::current_exception();
  }
  const uint32_t workers = static_cast<uint32_t>(n_threads_ - 1);
  for (uint32_t left = pool_->left.load(std::memory_order_acquire); left != workers;
       left = pool_->left.load(std::memory_order_acquire)) {
    wait_for_change(pool_->left, left);
  }
  if (failure) std::rethrow_exception(failure);
}

#endif

void ThreadTeam::run_driver(FunctionRef<void()> driver) {
  struct Leave {  // releases the workers however the driver ends
    ThreadTeam* team;
    ~Leave() {
      team->in_pass_ = false;
      team->work_ = nullptr;
      team->epoch_.fetch_add(1, std::memory_order_release);
      team->epoch_.notify_all();
    }
  };
  in_pass_ = true;
  Leave leave{this};
  driver();
}

void ThreadTeam::worker_loop(int thread, uint32_t first_epoch) {
  for (uint32_t seen = first_epoch;; ++seen) {
    wait_for_change(epoch_, seen);
    if (work_ == nullptr) return;
    (*work_)(thread, granted_);
    finished_.fetch_add(1, std::memory_order_release);
    finished_.notify_one();
  }
}

void ThreadTeam::parallel(FunctionRef<void(int, int)> work) {
  if (n_threads_ == 1) {
    work(0, 1);
    return;
  }
  if (!in_pass_) {
    pass([&] { parallel(work); });
    return;
  }
  if (granted_ == 1) {
    work(0, 1);
    return;
  }
  work_ = &work;
  finished_.store(0, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  work(0, granted_);
  const uint32_t workers = static_cast<uint32_t>(granted_ - 1);
  for (uint32_t done = finished_.load(std::memory_order_acquire); done != workers;
       done = finished_.load(std::memory_order_acquire)) {
    wait_for_change(finished_, done);
  }
}

void ThreadTeam::barrier() {
  if (n_threads_ == 1 || granted_ == 1) return;
  const uint32_t generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(granted_)) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  } else {
    wait_for_change(generation_, generation);
  }
}

}  // namespace glimpse
