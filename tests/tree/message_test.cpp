// What the library says is for every host: a command's flags are the command's words.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

namespace glimpse::tree_test {
namespace {

namespace fs = std::filesystem;

// A string literal that names a flag, as in "use --ctx-size". Include lines and comments have none of these.
bool names_a_flag(const std::string& line) {
  static const std::regex flag("\"(?:[^\"]*[ ('])?--[a-z][^\"]*\"");
  const size_t comment = line.find("//");
  return std::regex_search(line.substr(0, comment), flag);
}

TEST(Messages, OfTheLibraryNameNoFlags) {
  int n_files = 0;
  for (const char* const room : {"engine", "kernels", "loaders", "tokenizer"}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(fs::path(GLIMPSE_SOURCE_DIR) / room)) {
      const std::string extension = entry.path().extension();
      if (extension != ".cpp" && extension != ".h" && extension != ".cu" && extension != ".cuh") continue;
      ++n_files;
      std::ifstream file(entry.path());
      int number = 0;
      for (std::string line; std::getline(file, line);) {
        ++number;
        if (line.find("--") == std::string::npos) continue;
        EXPECT_FALSE(names_a_flag(line)) << entry.path().string() << ":" << number << ": " << line;
      }
    }
  }
  EXPECT_GT(n_files, 100);
}

TEST(Messages, AreSeenWhenTheyDo) {
  EXPECT_TRUE(names_a_flag("  return \"use a larger context, or --image-max-tokens\";"));
  EXPECT_TRUE(names_a_flag("\"--force replaces it\""));
  EXPECT_FALSE(names_a_flag("// \"see --help\""));
  EXPECT_FALSE(names_a_flag("\"a -- b\""));
}

}  // namespace
}  // namespace glimpse::tree_test
