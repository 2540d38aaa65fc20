#include "tokenizer/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace glimpse {
namespace {

StopMatcher make(std::vector<std::string> stops) {
  auto matcher = StopMatcher::create(std::move(stops));
  EXPECT_TRUE(matcher.ok());
  return std::move(matcher).value();
}

TEST(StopMatcher, WithoutStopsNothingIsHeld) {
  StopMatcher matcher = make({});
  EXPECT_EQ(matcher.push("abc").text, "abc");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, FindsAStopAcrossPushes) {
  StopMatcher matcher = make({"###", "User:"});
  EXPECT_EQ(matcher.push("Hi Us").text, "Hi ");
  EXPECT_EQ(matcher.push("e").text, "");
  const auto output = matcher.push("r: more");
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(output.text, "");
  EXPECT_EQ(output.stop_index, 1);
  EXPECT_EQ(matcher.push("ignored").text, "");
  EXPECT_TRUE(matcher.push("ignored").stopped());
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, LetsGoOfAFalseStart) {
  StopMatcher matcher = make({"User:"});
  EXPECT_EQ(matcher.push("Us").text, "");
  EXPECT_EQ(matcher.push("age").text, "Usage");
  EXPECT_EQ(matcher.push("UUs").text, "U");
  EXPECT_EQ(matcher.finish(), "Us");
}

TEST(StopMatcher, FindsAStopThatOverlapsItsFalseStart) {
  StopMatcher matcher = make({"aab"});
  const auto output = matcher.push("aaab");
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(output.text, "a");
}

TEST(StopMatcher, EarliestEndWinsThenTheLongest) {
  StopMatcher nested = make({"b", "abc"});
  EXPECT_EQ(nested.push("xabc").text, "xa");
  StopMatcher same_end = make({"c", "abc", "bc"});
  const auto output = same_end.push("xabc");
  EXPECT_EQ(output.text, "x");
  EXPECT_EQ(output.stop_index, 1);
}

TEST(StopMatcher, RefusesStopsThatAreNoText) {
  for (const char* bad : {"", "\x80", "a\xC3"}) {
    auto matcher = StopMatcher::create({"ok", bad});
    ASSERT_FALSE(matcher.ok());
    EXPECT_EQ(matcher.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(StopMatcher, CutsDoNotMatter) {
  std::mt19937 random(9);
  const auto word = [&](size_t longest, size_t shortest) {
    std::string s(shortest + random() % (longest - shortest + 1), 'a');
    for (char& c : s) c = static_cast<char>('a' + random() % 2);
    return s;
  };
  int n_stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops(random() % 4);
    for (auto& s : stops) s = word(6, 2);
    const std::string text = word(30, 0);
    // By definition: the first end at which any stop ends, the longest of those.
    std::string expected = text;
    bool found = false;
    for (size_t end = 1; end <= text.size() && !found; ++end) {
      for (const auto& s : stops) {
        if (end >= s.size() && text.compare(end - s.size(), s.size(), s) == 0) {
          found = true;
          expected = std::min(expected, text.substr(0, end - s.size()),
                              [](const auto& a, const auto& b) { return a.size() < b.size(); });
        }
      }
    }
    StopMatcher matcher = make(stops);
    std::string shown;
    bool stopped = false;
    for (size_t i = 0; i < text.size() && !stopped;) {
      const size_t n = 1 + random() % 4;
      const auto output = matcher.push(std::string_view(text).substr(i, n));
      shown += output.text;
      stopped = output.stopped();
      i += n;
    }
    shown += matcher.finish();
    ASSERT_EQ(shown, expected);
    ASSERT_EQ(stopped, found);
    n_stopped += stopped;
  }
  EXPECT_GT(n_stopped, 1000);
}

// A copy is made for every token that may have to be taken back.
TEST(StopMatcher, CopiesAreCheapAndGoTheirOwnWays) {
  std::string text(StopMatcher::kMaxBytes - 2, 'a');
  StopMatcher matcher = make({text, "xy"});
  EXPECT_EQ(matcher.push("aax").text, "aa");
  StopMatcher other = matcher;
  EXPECT_TRUE(matcher.push("y").stopped());
  EXPECT_EQ(other.push("z").text, "xz");
  EXPECT_FALSE(other.push("y").stopped());
  for (int i = 0; i < 2000; ++i) {
    const StopMatcher copy = other;
    ASSERT_EQ(other.push("a").text, "");
    other = copy;
  }
  EXPECT_EQ(StopMatcher::create({text, "xyz"}).error().code, ErrorCode::kTooLarge);
}

}  // namespace
}  // namespace glimpse
