// What documents name as commands can be run, and does what it says.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

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

// ctest is content with no test at all: of a misspelt -R, of a build that was configured without.
TEST(Scripts, APresetThatFindsNoTestsFails) {
  std::ostringstream text;
  text << std::ifstream(fs::path(GLIMPSE_SOURCE_DIR) / "CMakePresets.json").rdbuf();
  std::string presets = text.str();
  presets.erase(0, presets.find("\"testPresets\""));
  const std::regex base(R"("name": "base", "hidden": true[^\n]*"noTestsAction": "error")"), name("\"name\""),
      heir("\"inherits\": \"base\"");
  const auto count = [&](const std::regex& word) {
    return std::distance(std::sregex_iterator(presets.begin(), presets.end(), word), std::sregex_iterator());
  };
  EXPECT_EQ(count(base), 1);
  EXPECT_GT(count(name), 4);
  EXPECT_EQ(count(heir), count(name) - 1);
}

}  // namespace
}  // namespace glimpse::tree_test
