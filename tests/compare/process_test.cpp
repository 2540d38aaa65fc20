// Other programs: output, status, time limit, cancellation; and what the machine says of itself.
#include "tools/compare/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tools/compare/machine.h"

namespace glimpse::compare {
namespace {

using ::testing::HasSubstr;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(Process, GivesOutputStatusAndUse) {
  const auto r = run_process("/bin/sh", {"-c", "echo out; echo err >&2; exit 3"}, 20, {});
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(r->out, "out\n");
  EXPECT_EQ(r->err, "err\n");
  EXPECT_EQ(r->exit_code, 3);
  EXPECT_GT(r->wall_seconds, 0);
  EXPECT_GT(r->peak_rss_bytes, 100000);
  EXPECT_FALSE(r->timed_out);
}

TEST(Process, ArgumentsArePassedAsTheyAre) {
  const std::vector<std::string> odd = {"%s|", "a b", "$HOME", "; echo x", "'\"", ""};
  std::string want;
  std::vector<std::string> arguments = {"%s|"};
  arguments.insert(arguments.end(), odd.begin(), odd.end());
  for (const std::string& text : odd) want += text + "|";
  EXPECT_EQ(run_process("/usr/bin/printf", arguments, 20, {})->out, want);
}

TEST(Process, MuchOutputOnBothStreamsDoesNotBlock) {
  const auto r =
      run_process("/bin/sh", {"-c", "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2; cat"}, 20, {});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->exit_code, 0);  // and its input is empty
  EXPECT_EQ(r->out.size(), 3000000u);
  EXPECT_EQ(r->err.size(), 2000000u);
}

TEST(Process, TimeLimitEndsItAndItsChildren) {
  const double seconds = seconds_of([] {
    const auto r = run_process("/bin/sh", {"-c", "sleep 60 & sleep 60"}, 0.3, {});
    ASSERT_TRUE(r.ok());
    EXPECT_TRUE(r->timed_out);
    EXPECT_EQ(r->signal, 9);
  });
  EXPECT_LT(seconds, 30);
}

TEST(Process, CancellationEndsIt) {
  int asked = 0;
  const double seconds = seconds_of([&] {
    const auto r = run_process("/bin/sleep", {"60"}, 100, [&] { return ++asked > 2; });
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().code, ErrorCode::kCancelled);
  });
  EXPECT_LT(seconds, 30);
}

TEST(Process, MissingProgramIsNamed) {
  const auto r = run_process("/nowhere/llama-bench", {}, 5, {});
  ASSERT_FALSE(r.ok());
  EXPECT_THAT(r.error().message, HasSubstr("/nowhere/llama-bench"));
}

TEST(Machine, SaysWhatItCan) {
  const auto bandwidth = probe_bandwidth(1);
  ASSERT_TRUE(bandwidth.ok());
  EXPECT_GT(bandwidth.value(), 1e6);
  EXPECT_NE(cpu_name(), "");
  const double busy = machine_busy_seconds();
  if (busy >= 0) {
    EXPECT_LE(busy, machine_busy_seconds());
  }
}

}  // namespace
}  // namespace glimpse::compare
