// A team of threads that share out the pieces of a forward pass's phases.
//
// Who computes a piece does not matter to its result, so pieces go to whoever is free. A phase ends when its pieces are
// done: it waits for a thread that has taken one, never for a thread that has not woken up or that the system runs
// something else on. So a busy neighbour costs its share of the processors, not a time slice for every phase.
//
// A waiting thread spins for a short while, then sleeps.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/base/function_ref.h"
#include "engine/base/log.h"

namespace glimpse {

/// The half-open range of [0, count) that part `index` of `n_parts` is; ranges differ by at most one item.
struct WorkRange {
  int64_t begin = 0;
  int64_t end = 0;
};
constexpr WorkRange split_work(int64_t count, int index, int n_parts) {
  return {count * index / n_parts, count * (index + 1) / n_parts};
}

/// How many items a thread takes at once: `most`, and towards the end of the work fewer, down to `least`, so that all
/// threads finish together. Work of no more than `least` or `alone` items is left to the calling thread: handing some
/// to another and waiting for it takes about 2 microseconds.
struct Grain {
  int64_t most = 1;
  int64_t least = 1;
  int64_t alone = 0;
};

/// Not thread-safe: one team belongs to one session. Threads are made when they are first needed and joined when the
/// team is destroyed. In a child process (fork) the team makes new ones; a team that another thread was using at the
/// moment of the fork can only be destroyed there.
class ThreadTeam {
 public:
  /// n_threads: at least 1, including the calling thread. log: told when there are fewer threads than asked for.
  explicit ThreadTeam(int n_threads, LogSink log = {});
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  /// The number of threads asked for; indices of threads are below it.
  int n_threads() const { return n_threads_; }

  /// Makes the threads now, if they are not there. Returns their number, the calling one included: less than
  /// n_threads() where the system refuses more. (With OpenMP: n_threads(); its run-time library decides later.)
  int start();

  /// Runs `driver` on the calling thread while the others stay awake for its phases. Passes do not nest: inside one,
  /// the driver runs directly. Exceptions of the driver reach the caller.
  void pass(FunctionRef<void()> driver);

  /// Calls work(thread, begin, end) for ranges of at most grain.most items that cover [0, count) once, on the calling
  /// thread (0) and on whichever others are free, and returns when all are done. Each thread starts in a part of its
  /// own, the same for equal counts, and helps the others when that is done. `work` must not throw and must not call
  /// the team.
  void for_ranges(int64_t count, Grain grain, FunctionRef<void(int thread, int64_t begin, int64_t end)> work);

  /// Calls work(thread, i) for each i in [0, count), as for_ranges does.
  template <typename Work>
  void for_each(int64_t count, Work&& work) {
    for_ranges(count, {}, [&work](int thread, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) work(thread, i);
    });
  }

 private:
  struct Shared;  // what the threads look at

  const int n_threads_;
  const LogSink log_;
  bool in_pass_ = false;
  std::unique_ptr<Shared> shared_;  // nullptr for a team of one
};

}  // namespace glimpse
