// How long functions and files are, and how much of the code is comment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace glimpse::tree_test {
namespace {

namespace fs = std::filesystem;

using Lines = std::vector<std::string>;

Lines lines_of(std::istream&& in) {
  Lines lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::map<std::string, Lines> code_of(const std::vector<const char*>& rooms) {
  static const std::regex code(R"(.*\.(h|hpp|cpp|cu|cuh|inc))");
  std::map<std::string, Lines> files;
  for (const char* const room : rooms) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(fs::path(GLIMPSE_SOURCE_DIR) / room)) {
      if (!std::regex_match(entry.path().string(), code)) continue;
      files[fs::relative(entry.path(), GLIMPSE_SOURCE_DIR)] = lines_of(std::ifstream(entry.path()));
    }
  }
  return files;
}

size_t indent_of(const std::string& line) {
  return std::min(line.find_first_not_of(' '), line.size());
}

// As clang-format lays code out: a function's last line is a brace alone, its first the nearest one above that is
// indented as far. Of classes in classes too. What control statements close is no function.
std::vector<std::string> long_functions(const Lines& lines, size_t limit) {
  static const std::regex other(R"( *(if|for|while|switch|do|else|try|catch|case|default|namespace|class|struct|enum|)"
                                R"(union|extern|return|\}).*|.*[;=] *\{?)");
  std::vector<std::string> found;
  for (size_t last = 0; last < lines.size(); ++last) {
    const size_t indent = indent_of(lines[last]);
    if (indent > 4 || lines[last].substr(indent) != "}") continue;
    size_t first = last;
    const auto is_inside = [&](const std::string& line) {
      const size_t at = indent_of(line);
      return at > indent || at == line.size() || line[at] == '#' || line.compare(at, 2, "//") == 0;
    };
    while (first > 0 && is_inside(lines[--first])) {
    }
    const size_t n = last - first + 1;
    if (n > limit && indent_of(lines[first]) == indent && !std::regex_match(lines[first], other)) {
      found.push_back(lines[first] + ": " + std::to_string(n) + " lines");
    }
  }
  return found;
}

TEST(Sizes, FunctionsAreShort) {
  const auto code = code_of({"engine", "kernels", "loaders", "tokenizer"});
  EXPECT_GT(code.size(), 400u);
  for (const auto& [path, lines] : code) {
    const size_t limit = path.find("cuda") != std::string::npos ? 100 : 60;
    EXPECT_THAT(long_functions(lines, limit), testing::IsEmpty()) << path;
  }
}

// Two are one text for those who embed the library.
TEST(Sizes, FilesAreShort) {
  for (const auto& [path, lines] : code_of({"engine", "kernels", "loaders", "tokenizer", "tools", "bench"})) {
    if (path.starts_with("engine/include/")) continue;
    EXPECT_LE(lines.size(), 700u) << path;
  }
}

// The aim is nine of a hundred; the check leaves room for a change under way.
TEST(Sizes, EightAndAHalfLinesOfAHundredAreComments) {
  size_t n_lines = 0, n_comments = 0;
  for (const auto& [path, lines] : code_of({"engine", "kernels"})) {
    bool inside = false;
    for (const std::string& line : lines) {
      const size_t at = indent_of(line);
      if (at == line.size()) continue;
      const bool begins = line.compare(at, 2, "/*") == 0;
      n_comments += inside || begins || line.compare(at, 2, "//") == 0;
      if (inside || begins) inside = line.find("*/") == std::string::npos;
      ++n_lines;
    }
  }
  EXPECT_GE(static_cast<double>(n_comments), 0.085 * static_cast<double>(n_lines))
      << n_comments << " of " << n_lines << " lines that are not blank";
}

TEST(Sizes, SeeWhatIsTooLong) {
  const auto found = [](const char* text) { return long_functions(lines_of(std::istringstream(text)), 3); };
  EXPECT_THAT(found("int f(int a,\n      int b) {\n  return 1;\n}\n"), testing::ElementsAre("int f(int a,: 4 lines"));
  EXPECT_THAT(found("int f() {\n#if X\n\n  return 1;\n}\n"), testing::SizeIs(1));
  EXPECT_THAT(found("struct S {\n  void g() {\n    a();\n    b();\n  }\n};\n"), testing::SizeIs(1));
  EXPECT_THAT(found("int f() {\n  return 1;\n}\n"), testing::IsEmpty());
  EXPECT_THAT(found("struct S {\n  int a;\n  int b;\n  int c;\n};\n"), testing::IsEmpty());
}

}  // namespace
}  // namespace glimpse::tree_test
