// Documents name scripts as commands: what begins with "#!" can be run.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace glimpse::tree_test {
namespace {

namespace fs = std::filesystem;

TEST(Scripts, CanBeRun) {
  int n = 0;
  for (const char* const room : {"bench", "tools"}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(fs::path(GLIMPSE_SOURCE_DIR) / room)) {
      char begin[2] = {};
      if (!entry.is_regular_file() || !std::ifstream(entry.path()).read(begin, 2)) continue;
      if (begin[0] != '#' || begin[1] != '!') continue;
      EXPECT_NE(entry.status().permissions() & fs::perms::owner_exec, fs::perms::none) << entry.path();
      ++n;
    }
  }
  EXPECT_GT(n, 10);
}

}  // namespace
}  // namespace glimpse::tree_test
