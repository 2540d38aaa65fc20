// A team of threads that runs one parallel region per forward pass.
//
// pass() opens the region: the calling thread runs the driver (the model's own text), the others wait for work.
// Each parallel() inside is a phase: every thread runs the function, and the call returns when all are done. A
// waiting thread spins for a short while, then sleeps, so that an idle or oversubscribed machine is not burned.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "engine/base/function_ref.h"

namespace glimpse {

/// The half-open range of [0, count) that thread `index` of `n_threads` owns; ranges differ by at most one item.
struct WorkRange {
  int64_t begin = 0;
  int64_t end = 0;
};
constexpr WorkRange split_work(int64_t count, int index, int n_threads) {
  return {count * index / n_threads, count * (index + 1) / n_threads};
}

/// Not thread-safe: one team belongs to one session.
class ThreadTeam {
 public:
  /// n_threads: at least 1, including the calling thread.
  explicit ThreadTeam(int n_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  /// The number of threads asked for. A phase may see fewer, when the OpenMP runtime grants fewer.
  int n_threads() const { return n_threads_; }

  /// Runs `driver` on the calling thread while the others stand by. Passes do not nest: inside one, the driver
  /// runs directly. Exceptions of the driver reach the caller.
  void pass(FunctionRef<void()> driver);

  /// Runs work(thread_index, n_threads) once on every thread and returns when all have finished; opens a pass of
  /// its own when there is none. `work` must not throw.
  void parallel(FunctionRef<void(int thread, int n_threads)> work);

  /// Inside parallel(): returns when every thread of the team has called it.
  void barrier();

 private:
  struct Pool;  // std::thread workers, when built without OpenMP

  void worker_loop(int thread, uint32_t first_epoch);
  void run_driver(FunctionRef<void()> driver);

  const int n_threads_;
  int granted_ = 1;  // threads of the current pass
  bool in_pass_ = false;
  const FunctionRef<void(int, int)>* work_ = nullptr;  // nullptr: leave the pass
  alignas(64) std::atomic<uint32_t> epoch_{0};         // counts phases; workers wait for it to move
  alignas(64) std::atomic<uint32_t> finished_{0};      // workers that completed the current phase
  alignas(64) std::atomic<uint32_t> arrived_{0};       // barrier()
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::unique_ptr<Pool> pool_;
};

}  // namespace glimpse
