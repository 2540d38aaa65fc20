#include "engine/base/thread_team.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace glimpse {
namespace {

TEST(ThreadTeam, EveryThreadRunsEveryPhaseOnce) {
  for (int n : {1, 2, 3, 7}) {
    ThreadTeam team(n);
    std::vector<int> counts(static_cast<size_t>(n), 0);
    team.pass([&] {
      for (int phase = 0; phase < 200; ++phase) {
        team.parallel([&](int thread, int n_threads) {
          EXPECT_EQ(n_threads, n);
          ++counts[static_cast<size_t>(thread)];
        });
      }
    });
    for (int count : counts) EXPECT_EQ(count, 200) << n << " threads";
  }
}

TEST(ThreadTeam, PhasesSeeWhatEarlierPhasesWrote) {
  ThreadTeam team(3);
  std::vector<int64_t> values(1000, 1);
  team.pass([&] {
    for (int phase = 0; phase < 50; ++phase) {
      team.parallel([&](int thread, int n_threads) {
        const WorkRange range = split_work(1000, (thread + phase) % n_threads, n_threads);
        for (int64_t i = range.begin; i < range.end; ++i) values[static_cast<size_t>(i)] += 1;
      });
    }
  });
  for (int64_t value : values) EXPECT_EQ(value, 51);
}

TEST(ThreadTeam, BarrierSeparatesTheTwoHalvesOfAPhase) {
  ThreadTeam team(4);
  std::vector<int> first(4, 0);
  for (int round = 1; round <= 100; ++round) {
    team.parallel([&](int thread, int n_threads) {
      first[static_cast<size_t>(thread)] = round;
      team.barrier();
      for (int other = 0; other < n_threads; ++other) EXPECT_EQ(first[static_cast<size_t>(other)], round);
      team.barrier();
    });
  }
}

TEST(ThreadTeam, ExceptionsOfTheDriverReachTheCaller) {
  ThreadTeam team(2);
  EXPECT_THROW(team.pass([] { throw std::runtime_error("driver"); }), std::runtime_error);
  int ran = 0;  // and the team still works
  team.parallel([&](int thread, int) { if (thread == 0) ran = 1; });
  EXPECT_EQ(ran, 1);
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

}  // namespace
}  // namespace glimpse
