// A type of quantised weights has few homes: CONTRIBUTING.md ("Adding a quantised type") names them all.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

namespace glimpse::tree_test {
namespace {

namespace fs = std::filesystem;

std::string code_of(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return std::regex_replace(text.str(), std::regex("//[^\n]*"), "");
}

// Enumerator and name of every line of the list.
std::map<std::string, std::string> listed_types() {
  std::map<std::string, std::string> types;
  const std::string list = code_of(fs::path(GLIMPSE_SOURCE_DIR) / "kernels/quant/block_formats.inc");
  const std::regex line(R"(GLIMPSE_BLOCK_\d+\(k(\w+), (\w+)\))");
  for (std::sregex_iterator it(list.begin(), list.end(), line), end; it != end; ++it) types[(*it)[1]] = (*it)[2];
  return types;
}

std::map<std::string, std::string> library_code() {
  std::map<std::string, std::string> code;
  for (const char* const room : {"engine", "kernels", "loaders"}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(fs::path(GLIMPSE_SOURCE_DIR) / room)) {
      const std::string extension = entry.path().extension();
      if (extension == ".h" || extension == ".cpp" || extension == ".cuh" || extension == ".cu" ||
          extension == ".inc") {
        code[fs::relative(entry.path(), GLIMPSE_SOURCE_DIR)] = code_of(entry.path());
      }
    }
  }
  code.erase("loaders/gguf/gguf_foreign.cpp");  // advises types in messages about files of others
  return code;
}

TEST(BlockFormats, AreNamedInAtMostEightFiles) {
  const std::map<std::string, std::string> code = library_code(), types = listed_types();
  ASSERT_GE(types.size(), 12u);
  const std::string guide = code_of(fs::path(GLIMPSE_SOURCE_DIR) / "CONTRIBUTING.md");
  for (const auto& [type, name] : types) {
    if (type == "Q8_0") continue;  // also an element of caches
    const std::regex word("\\bk?" + type + "\\b|(^|[^a-z0-9])" + name + "($|[^a-z0-9])");
    std::set<std::string> files;
    for (const auto& [path, text] : code) {
      if (std::regex_search(text, word)) files.insert(path);
    }
    std::string list;
    for (const std::string& file : files) {
      list += "\n  " + file;
      const std::string stem = file.substr(file.rfind('/') + 1);
      EXPECT_NE(guide.find(stem.starts_with("quantize_") ? "quantize_" : stem), std::string::npos)
          << file << " names " << type << ", and CONTRIBUTING.md does not name it";
    }
    EXPECT_LE(files.size(), 8u) << type << ":" << list;
    EXPECT_GE(files.size(), 3u) << type << ":" << list;
  }
}

}  // namespace
}  // namespace glimpse::tree_test
