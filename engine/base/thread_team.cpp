#include "engine/base/thread_team.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#include "engine/base/cpu_features.h"
#include "engine/base/own_thread.h"
#include "engine/base/result.h"

#if GLIMPSE_USE_OPENMP
#include <omp.h>
#endif

#ifndef GLIMPSE_TEAM_STALLS
#define GLIMPSE_TEAM_STALLS  // a test lets the calling thread be put off there
#endif

namespace glimpse {
namespace {

// Longer than the gaps of a decode step and about what it costs to fall asleep and be woken; shorter than anybody
// would notice as waste.
constexpr std::chrono::microseconds kSpin{50};

// Looks at done() until it holds, for kSpin at most. Returns whether it does.
template <typename Done>
bool spin_until(Done&& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      __builtin_ia32_pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

// Items taken from a part of a phase. The position carries the number of its phase, so that the calling thread need not
// reset every part before each phase: whoever comes first does.
class Cursor {
 public:
  /// The next items of `part`, at most grain.most; empty when all are taken. phase: not 0, and another than that of the
  /// phase before, in which each cursor was looked at until it was empty.
  WorkRange take(uint16_t phase, WorkRange part, Grain grain) {
    const uint64_t tag = uint64_t{phase} << kTagShift;
    for (uint64_t old = value_.load(std::memory_order_relaxed);;) {
      const bool is_current = (old & ~kPositionMask) == tag;
      const int64_t position = is_current ? static_cast<int64_t>(old & kPositionMask) : part.begin;
      const int64_t left = part.end - position;
      if (left <= 0 && is_current) return {};
      const int64_t n = std::min({left, grain.most, std::max(grain.least, (left + 1) / 2)});
      if (value_.compare_exchange_weak(old, tag | static_cast<uint64_t>(position + n), std::memory_order_relaxed)) {
        return {position, position + n};
      }
    }
  }

  /// Makes it fit any phase.
  void reset() { value_.store(0, std::memory_order_relaxed); }

 private:
  static constexpr int kTagShift = 48;
  static constexpr uint64_t kPositionMask = (uint64_t{1} << kTagShift) - 1;
  alignas(64) std::atomic<uint64_t> value_{0};
};

}  // namespace

// How a phase goes. The calling thread writes down the work and makes the epoch odd: the phase is open. A worker that
// sees it says that it is inside, looks once more whether the phase is still open, and takes pieces. When the calling
// thread finds no piece left it makes the epoch even, and waits for those that are inside: nobody else has taken any.
// Both sides write before they read (sequentially consistent), so that one of them sees the other.
struct ThreadTeam::Shared {
  struct Seat {
    alignas(64) std::atomic<uint32_t> inside{0};
    Cursor cursor;
    Shared* shared = nullptr;
    int index = 0;
    pthread_t thread{};
    uint32_t first_epoch = 0;
  };

  explicit Shared(int n_threads) : seats(std::make_unique<Seat[]>(static_cast<size_t>(n_threads))) {}
  void reset(int n_threads);

  void worker_loop(int thread, uint32_t seen);
  void take_pieces(int thread);
  void wake(uint32_t step);
  void close_phase();
  void wait_until_out(Seat& seat);
  void release_workers();
  int make_workers(int n_threads, int* error);
  void join_workers();
  Seat& seat(int i) { return seats[static_cast<size_t>(i)]; }

  alignas(64) std::atomic<uint32_t> epoch{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<uint32_t> n_sleeping{0};  // or about to, or waking up
  std::atomic<bool> caller_sleeps{false};
  // The phase at hand.
  alignas(64) int64_t count = 0;
  uint16_t phase = 0;  // its number; the epoch, which moves without one as well, would meet old cursors again
  Grain grain;
  const FunctionRef<void(int, int64_t, int64_t)>* work = nullptr;

  const std::unique_ptr<Seat[]> seats;
  int n_running = 1;
  bool spins = true;                // not where threads outnumber processors
  std::optional<uint32_t> process;  // that has the workers, or should; none: they were never asked for
};

// While there are no workers.
void ThreadTeam::Shared::reset(int n_threads) {
  stop.store(false, std::memory_order_relaxed);
  n_sleeping.store(0, std::memory_order_relaxed);
  caller_sleeps.store(false, std::memory_order_relaxed);
  epoch.fetch_and(~uint32_t{1}, std::memory_order_relaxed);
  for (int i = 0; i < n_threads; ++i) {
    seat(i).inside.store(0, std::memory_order_relaxed);
    seat(i).cursor.reset();
  }
}

// Of the phase at hand, which stays what it is while this thread is inside.
void ThreadTeam::Shared::take_pieces(int thread) {
  for (int i = 0; i < n_running; ++i) {
    const int part = (thread + i) % n_running;
    const WorkRange items = split_work(count, part, n_running);
    for (WorkRange r = seat(part).cursor.take(phase, items, grain); r.begin < r.end;
         r = seat(part).cursor.take(phase, items, grain)) {
      (*work)(thread, r.begin, r.end);
    }
  }
}

void ThreadTeam::Shared::worker_loop(int thread, uint32_t seen) {
  Seat& mine = seat(thread);
  for (;;) {
    const auto changed = [&] { return epoch.load(std::memory_order_acquire) != seen; };
    if (!(spins ? spin_until(changed) : changed())) {
      n_sleeping.fetch_add(1, std::memory_order_seq_cst);
      epoch.wait(seen, std::memory_order_seq_cst);
      n_sleeping.fetch_sub(1, std::memory_order_relaxed);
    }
    seen = epoch.load(std::memory_order_acquire);
    if (stop.load(std::memory_order_acquire))
      return;  // after the epoch: the last change of it comes with the order to stop
    if (seen % 2 == 0) continue;
    mine.inside.store(1, std::memory_order_seq_cst);
    if (epoch.load(std::memory_order_seq_cst) == seen) take_pieces(thread);
    mine.inside.store(0, std::memory_order_seq_cst);
    if (caller_sleeps.load(std::memory_order_seq_cst)) mine.inside.notify_one();
  }
}

// step: 1 opens a phase, 2 leaves it at that. Whoever sleeps is counted until it is awake: were the count cleared here,
// a worker that has seen the new epoch, found nothing to do and gone to sleep before the count is looked at would be
// cleared with the others, and nothing would ever wake it.
void ThreadTeam::Shared::wake(uint32_t step) {
  epoch.fetch_add(step, std::memory_order_seq_cst);
  GLIMPSE_TEAM_STALLS;
  if (n_sleeping.load(std::memory_order_seq_cst) != 0) epoch.notify_all();
}

void ThreadTeam::Shared::close_phase() {
  epoch.fetch_add(1, std::memory_order_seq_cst);
  for (int i = 1; i < n_running; ++i) wait_until_out(seat(i));
}

void ThreadTeam::Shared::wait_until_out(Seat& seat) {
  const auto is_out = [&] { return seat.inside.load(std::memory_order_seq_cst) == 0; };
  if (is_out() || (spins && spin_until(is_out))) return;
  caller_sleeps.store(true, std::memory_order_seq_cst);
  seat.inside.wait(1, std::memory_order_seq_cst);
  caller_sleeps.store(false, std::memory_order_seq_cst);
}

void ThreadTeam::Shared::release_workers() {
  stop.store(true, std::memory_order_release);
  wake(2);
}

#if GLIMPSE_USE_OPENMP

ThreadTeam::ThreadTeam(int n_threads, LogSink log) : n_threads_(std::max(1, n_threads)), log_(std::move(log)) {
  if (n_threads_ == 1) return;
  shared_ = std::make_unique<Shared>(n_threads_);
  shared_->spins = n_threads_ <= available_cpus();
}

ThreadTeam::~ThreadTeam() = default;

int ThreadTeam::start() {
  return n_threads_;
}

namespace {

// libgomp keeps its threads for ever and does not notice that a child has none of them: a child of a process that has
// used them works alone.
bool may_use_openmp() {
  static std::atomic<uint32_t> used_in{0};
  uint32_t expected = 0;
  const uint32_t now = process_number();
  return now != 0 && (used_in.compare_exchange_strong(expected, now) || expected == now);
}

}  // namespace

void ThreadTeam::pass(FunctionRef<void()> driver) {
  if (in_pass_ || n_threads_ == 1) {
    driver();
    return;
  }
  std::exception_ptr failure;  // an exception must not leave an OpenMP region
  Shared& s = *shared_;
  s.reset(n_threads_);
  const uint32_t epoch = s.epoch.load(std::memory_order_relaxed);
  const auto lead = [&](int n_running) {
    s.n_running = n_running;
    in_pass_ = true;
    try {
      driver();
    } catch (...) {
      failure = std::current_exception();
    }
    in_pass_ = false;
    s.release_workers();
  };
  if (!may_use_openmp()) {
    lead(1);
  } else {
#pragma omp parallel num_threads(n_threads_)
    {
      const int thread = omp_get_thread_num();
      if (thread == 0) {
        lead(omp_get_num_threads());
      } else {
        s.worker_loop(thread, epoch);
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

#else

ThreadTeam::ThreadTeam(int n_threads, LogSink log) : n_threads_(std::max(1, n_threads)), log_(std::move(log)) {
  if (n_threads_ > 1) shared_ = std::make_unique<Shared>(n_threads_);
}

ThreadTeam::~ThreadTeam() {
  if (shared_) shared_->join_workers();
}

// Returns the number of threads there are now, the caller included; *error: why not all.
int ThreadTeam::Shared::make_workers(int n_threads, int* error) {
  const HostSignalsBlocked blocked;
  for (n_running = 1; n_running < n_threads; ++n_running) {
    Seat& s = seat(n_running);
    s.shared = this;
    s.index = n_running;
    s.first_epoch = epoch.load(std::memory_order_relaxed);
    *error = pthread_create(
        &s.thread, nullptr,
        [](void* argument) -> void* {
          const Seat& own = *static_cast<Seat*>(argument);
          own.shared->worker_loop(own.index, own.first_epoch);
          return nullptr;
        },
        &s);
    if (*error != 0) break;
    pthread_setname_np(s.thread, "glimpse");
  }
  return n_running;
}

void ThreadTeam::Shared::join_workers() {
  // In a child process they do not exist.
  if (process != process_number()) return;
  release_workers();
  for (int i = 1; i < n_running; ++i) pthread_join(seat(i).thread, nullptr);
}

int ThreadTeam::start() {
  if (n_threads_ == 1) return 1;
  Shared& s = *shared_;
  const uint32_t here = process_number();
  if (s.process == here) return s.n_running;
  s.reset(n_threads_);
  s.spins = n_threads_ <= available_cpus();
  s.process = here;
  int error = 0;
  const int n = here != 0 ? s.make_workers(n_threads_, &error) : 1;
  if (n < n_threads_) {
    log(log_, LogLevel::kWarning,
        format("%d threads were asked for, %d could be had (%s): working with %s", n_threads_, n,
               error == 0 ? "no memory for a fork handler" : std::strerror(error),
               n == 1 ? "the calling thread alone" : "these"));
  }
  return n;
}

void ThreadTeam::pass(FunctionRef<void()> driver) {
  if (in_pass_ || start() == 1) {
    driver();
    return;
  }
  struct Leave {
    bool* in_pass;
    ~Leave() { *in_pass = false; }
  };
  in_pass_ = true;
  const Leave leave{&in_pass_};
  shared_->wake(2);  // be awake when the first phase comes
  driver();
}

#endif

void ThreadTeam::for_ranges(int64_t count, Grain grain, FunctionRef<void(int, int64_t, int64_t)> work) {
  const bool alone = count <= std::max(grain.least, grain.alone) || start() == 1;
#if GLIMPSE_USE_OPENMP
  if (!alone && !in_pass_) {
    pass([&] { for_ranges(count, grain, work); });
    return;
  }
#endif
  if (alone || shared_->n_running == 1) {
    for (int64_t i = 0; i < count; i += grain.most) work(0, i, std::min(i + grain.most, count));
    return;
  }
  Shared& s = *shared_;
  s.count = count;
  s.phase = s.phase == UINT16_MAX ? uint16_t{1} : static_cast<uint16_t>(s.phase + 1);
  s.grain = grain;
  s.work = &work;
  s.wake(1);
  s.take_pieces(0);
  s.close_phase();
}

}  // namespace glimpse
