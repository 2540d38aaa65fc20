// The groups of tests that bench/gpu_check.sh runs on a GPU, against the tests that there are.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace glimpse {
namespace {

// As --gtest_filter: * and ? stand for any characters and for one.
bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') return matches(pattern.substr(1), name) || (!name.empty() && matches(pattern, name.substr(1)));
  return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) && matches(pattern.substr(1), name.substr(1));
}

std::vector<std::string> all_tests() {
  std::vector<std::string> names;
  const auto& all = *::testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const auto& suite = *all.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      names.push_back(std::string(suite.name()) + "." + suite.GetTestInfo(j)->name());
    }
  }
  return names;
}

// Patterns of the script's lines `tests NAME LIMIT 'PATTERN:PATTERN'`.
std::vector<std::string> patterns_of_script() {
  std::ifstream script(GLIMPSE_SOURCE_DIR "/bench/gpu_check.sh");
  std::vector<std::string> patterns;
  const std::regex group("^  tests [a-z]+ [0-9]+ '([^']*)'$"), pattern("[^:]+");
  std::smatch found;
  for (std::string line; std::getline(script, line);) {
    if (!std::regex_match(line, found, group)) continue;
    const std::string filter = found[1];
    for (auto it = std::sregex_iterator(filter.begin(), filter.end(), pattern); it != std::sregex_iterator(); ++it) {
      patterns.push_back(it->str());
    }
  }
  return patterns;
}

TEST(GpuCheckGroups, HaveEveryTestThatAGpuCanFail) {
  const std::vector<std::string> tests = all_tests(), patterns = patterns_of_script();
  ASSERT_GT(patterns.size(), 20u);
  const auto any = [](const std::vector<std::string>& of, const auto& is) {
    return std::any_of(of.begin(), of.end(), is);
  };
  for (const std::string& p : patterns) {
    EXPECT_EQ(p.find('-'), std::string::npos) << p << ": nothing is left out";
    EXPECT_TRUE(any(tests, [&](const std::string& t) { return matches(p, t); })) << p << " matches no test";
  }
  // What looks at the executor, the compiler's output, files or messages.
  const std::set<std::string> of_the_host = {
      "ClusterRing",  "CudaDeviceErrors", "GoldenPixels", "GoldenTokens", "GpuCheckGroups",
      "HostClusters", "HostExecutor",     "HostHopper",   "PtxasReport",  "Sass"};
  for (const std::string& t : tests) {
    if (of_the_host.contains(t.substr(0, t.find('.')))) continue;
    EXPECT_TRUE(any(patterns, [&](const std::string& p) { return matches(p, t); })) << t << " is in no group";
  }
}

}  // namespace
}  // namespace glimpse
