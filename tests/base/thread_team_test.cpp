// Compiled twice: for the team of our own, and for the one on OpenMP (tests/CMakeLists.txt).
#include "engine/base/thread_team.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/first_failure.h"

namespace glimpse {
namespace {

const std::vector<int> kThreads = {1, 2, 3, 7};

TEST(ThreadTeam, EveryItemIsDoneOnce) {
  for (const int n : kThreads) {
    ThreadTeam team(n);
    for (const int64_t count : {0, 1, 2, 5, 96, 1000}) {
      for (const Grain grain : {Grain{}, Grain{.most = 16, .least = 4}, Grain{.most = 3}, Grain{.most = 5000}}) {
        std::vector<std::atomic<int>> counts(static_cast<size_t>(count));
        std::atomic<int> n_wrong{0};
        team.for_ranges(count, grain, [&](int thread, int64_t begin, int64_t end) {
          if (thread < 0 || thread >= n || begin >= end || end - begin > grain.most) ++n_wrong;
          for (int64_t i = begin; i < end; ++i) ++counts[static_cast<size_t>(i)];
        });
        EXPECT_EQ(n_wrong, 0) << n << " threads, " << count << " items";
        for (const std::atomic<int>& times : counts) ASSERT_EQ(times, 1) << n << " threads, " << count << " items";
      }
    }
  }
}

TEST(ThreadTeam, PhasesSeeWhatEarlierPhasesWrote) {
  for (const bool in_one_pass : {true, false}) {
    ThreadTeam team(3);
    std::vector<int64_t> values(1000, 1), other(1000);
    const auto phases = [&] {
      for (int phase = 0; phase < 200; ++phase) {
        team.for_ranges(1000, Grain{.most = 7}, [&](int, int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            other[static_cast<size_t>(i)] = values[static_cast<size_t>((i * 7 + phase) % 1000)];
          }
        });
        team.for_ranges(1000, Grain{.most = 13}, [&](int, int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] = other[static_cast<size_t>(i)] + 1;
        });
      }
    };
    if (in_one_pass) {
      team.pass(phases);
    } else {
      phases();
    }
    for (const int64_t value : values) EXPECT_EQ(value, 201);
  }
}

// More phases than a cursor's tag can tell apart, most of which leave the last parts empty.
TEST(ThreadTeam, TagsOfPhasesMayComeAgain) {
  ThreadTeam team(3);
  std::atomic<int64_t> sum{0};
  team.pass([&] {
    for (int round = 0; round < 3; ++round) {
      for (int phase = 0; phase < 30000; ++phase) team.for_each(2, [&](int, int64_t) { ++sum; });
      for (int phase = 0; phase < 5000; ++phase) team.for_each(9, [&](int, int64_t) { ++sum; });
    }
  });
  EXPECT_EQ(sum, 3 * (60000 + 45000));
}

#if !GLIMPSE_USE_OPENMP  // there each pass begins anew, and costs a parallel region
// Passes whose work is too little to share move the epoch as well: no number of them between two phases may make the
// second take the first one's cursors for its own.
TEST(ThreadTeam, PassesWithoutPhasesMayBeAnyNumber) {
  ThreadTeam team(2);
  std::atomic<int64_t> sum{0};
  const auto phase = [&] { team.for_each(8, [&](int, int64_t) { ++sum; }); };
  phase();
  for (int pass = 1; pass < 1 << 15; ++pass) team.pass([] {});
  phase();
  EXPECT_EQ(sum, 16);
}
#endif

TEST(ThreadTeam, AllThreadsTakePart) {
  ThreadTeam team(4);
  if (team.start() < 4) GTEST_SKIP() << "no four threads to be had";
  // Each item waits until all four have begun: this ends only if each is on another thread.
  std::atomic<int> n_begun{0};
  std::vector<std::atomic<int>> of_thread(4);
  team.for_each(4, [&](int thread, int64_t) {
    ++of_thread[static_cast<size_t>(thread)];
    ++n_begun;
    while (n_begun < 4) std::this_thread::yield();
  });
  for (const std::atomic<int>& n : of_thread) EXPECT_EQ(n, 1);
}

// A worker that is held up in one part does not hold up that part's other items, and nobody waits for it longer than
// for its own piece.
TEST(ThreadTeam, OthersDoTheWorkOfALateThread) {
  ThreadTeam team(2);
  if (team.start() < 2) GTEST_SKIP() << "no two threads to be had";
  std::atomic<int> n_done{0};
  std::atomic<bool> worker_has_one{false};
  std::atomic<int> of_worker{0};
  team.for_each(100, [&](int thread, int64_t) {
    if (thread == 1) {
      ++of_worker;
      worker_has_one = true;
      while (n_done < 99) std::this_thread::yield();  // the other 99 are done meanwhile, those of its part too
    } else {
      while (!worker_has_one) std::this_thread::yield();
    }
    ++n_done;
  });
  EXPECT_EQ(n_done, 100);
  EXPECT_EQ(of_worker, 1);
}

TEST(ThreadTeam, LittleWorkStaysOnTheCallingThread) {
  ThreadTeam team(3);
  const auto self = std::this_thread::get_id();
  team.for_ranges(4, Grain{.most = 16, .least = 4}, [&](int thread, int64_t begin, int64_t end) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), self);
    EXPECT_EQ(end - begin, 4);
  });
  team.for_ranges(40, Grain{.most = 16, .least = 4, .alone = 40}, [&](int thread, int64_t begin, int64_t end) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), self);
    EXPECT_LE(end - begin, 16);
  });
}

TEST(ThreadTeam, ExceptionsOfTheDriverReachTheCaller) {
  ThreadTeam team(2);
  EXPECT_THROW(team.pass([] { throw std::runtime_error("driver"); }), std::runtime_error);
  std::atomic<int> n{0};  // and the team still works
  team.for_each(10, [&](int, int64_t) { ++n; });
  EXPECT_EQ(n, 10);
}

TEST(ThreadTeam, PassesInsideAPassRunDirectly) {
  ThreadTeam team(2);
  std::atomic<int> n{0};
  team.pass([&] { team.pass([&] { team.for_each(10, [&](int, int64_t) { ++n; }); }); });
  EXPECT_EQ(n, 10);
}

TEST(ThreadTeam, WakesAfterSleep) {
  ThreadTeam team(3);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 20; ++round) {
    team.for_each(64, [&](int, int64_t i) { sum += i; });
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // longer than anybody spins
  }
  EXPECT_EQ(sum, 20 * 63 * 64 / 2);
}

// The order to stop comes while workers are looking at the end of the last phase.
TEST(ThreadTeam, EndsRightAfterAPhase) {
  for (int round = 0; round < 2000; ++round) {
    ThreadTeam team(2);
    std::atomic<int> n{0};
    team.for_each(2, [&](int, int64_t) { ++n; });
    ASSERT_EQ(n, 2);
  }
}

TEST(ThreadTeam, TeamsInSeveralThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> n_wrong{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        ThreadTeam team(3);
        std::atomic<int64_t> sum{0};
        for (int phase = 0; phase < 20; ++phase) team.for_each(50, [&](int, int64_t i) { sum += i; });
        n_wrong += sum != 20 * 49 * 50 / 2;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(n_wrong, 0);
}

// Runs `body` in a child process: its result, or -1 when it does not end within ten seconds.
template <typename Body>
int in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    _exit(body());
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

int sum_of_digits(ThreadTeam& team) {
  std::atomic<int> sum{0};
  team.pass([&] { team.for_each(10, [&](int, int64_t i) { sum += static_cast<int>(i); }); });
  return sum;
}

TEST(ThreadTeam, WorksInAChildProcess) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer does not follow threads that a child process makes";
#endif
  ThreadTeam team(3);
  EXPECT_EQ(sum_of_digits(team), 45);
  EXPECT_EQ(in_child([&] { return sum_of_digits(team); }), 45);
  EXPECT_EQ(in_child([&] {
              ThreadTeam fresh(3);
              return sum_of_digits(fresh);
            }),
            45);
  EXPECT_EQ(in_child([&] { return in_child([&] { return sum_of_digits(team); }); }), 45) << "a grandchild";
  EXPECT_EQ(in_child([&] {
              { ThreadTeam fresh(3); }  // and can be destroyed there, used or not
              delete new ThreadTeam(2);
              return 7;
            }),
            7);
  EXPECT_EQ(sum_of_digits(team), 45) << "the parent's still works";
}

TEST(ThreadTeam, IsDestroyedInAChildThatNeverUsedIt) {
  auto team = std::make_unique<ThreadTeam>(3);
  EXPECT_EQ(sum_of_digits(*team), 45);
  EXPECT_EQ(in_child([&] {
              team.reset();
              return 3;
            }),
            3);
}

TEST(SplitWork, CoversEverythingOnce) {
  for (int n : {1, 2, 3, 7, 16}) {
    for (int64_t count : {int64_t{0}, int64_t{1}, int64_t{5}, int64_t{96}, int64_t{151936}}) {
      int64_t next = 0;
      for (int i = 0; i < n; ++i) {
        const WorkRange range = split_work(count, i, n);
        EXPECT_EQ(range.begin, next);
        next = range.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

TEST(FirstFailure, TellsTheFailureOfTheLowestPiece) {
  for (int round = 0; round < 20; ++round) {
    ThreadTeam team(3);
    FirstFailure failure;
    team.for_each(100, [&](int, int64_t i) {
      failure.run(i, [&]() -> Status {
        if (i == 70) throw std::bad_alloc();
        if (i == 80) throw 5;
        if (i >= 33) return make_error(ErrorCode::kNumeric, "piece %d", static_cast<int>(i));
        return {};
      });
    });
    const Status status = failure.status("job");
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().message, "piece 33");
  }
}

TEST(FirstFailure, ExceptionsAreFailures) {
  FirstFailure failure;
  EXPECT_TRUE(failure.status("job").ok());
  failure.run(5, []() -> Status { throw std::bad_alloc(); });
  const Status status = failure.status("blk.0");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(status.error().message, "blk.0: out of memory");
}

}  // namespace
}  // namespace glimpse
