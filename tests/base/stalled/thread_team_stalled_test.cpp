// The team of threads, its calling thread put off between opening a phase and waking the others (tests/CMakeLists.txt):
// workers that do not sleep have seen the phase, found no piece left and fallen asleep by then.
#include <gtest/gtest.h>

#include <atomic>

#include "engine/base/thread_team.h"

namespace glimpse {
namespace {

TEST(StalledThreadTeam, WhoFallsAsleepBeforeOthersAreWokenIsWokenNextTime) {
  for (int round = 0; round < 20; ++round) {
    ThreadTeam team(2);
    std::atomic<int> n{0};
    for (int phase = 0; phase < 20; ++phase) team.for_each(2, [&](int, int64_t) { ++n; });
    ASSERT_EQ(n, 40);
  }  // its end waits for the workers
}

}  // namespace
}  // namespace glimpse
