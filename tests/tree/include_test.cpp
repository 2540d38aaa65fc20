// Who includes whom: the arrows of CONTRIBUTING.md, checked on every #include line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "tests/tree/source_tree.h"

namespace glimpse::tree_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Sources& sources() {
  static const Sources all = read_sources(GLIMPSE_SOURCE_DIR);
  return all;
}

std::string lines(const std::vector<std::string>& violations) {
  std::string text;
  for (const std::string& violation : violations) text += violation + "\n";
  return text;
}

Include quoted(const std::string& target) {
  return {target, true, 7};
}
Include angled(const std::string& target) {
  return {target, false, 7};
}

TEST(IncludeArrows, HoldInEveryFile) {
  EXPECT_EQ(lines(broken_arrows(sources())), "");
}
TEST(IncludeArrows, NameFilesThatExist) {
  EXPECT_EQ(lines(unknown_targets(sources())), "");
}
TEST(IncludeArrows, FormNoCycle) {
  EXPECT_EQ(lines(cycles(sources())), "");
}
TEST(IncludeArrows, KeepForeignHeadersInTheirRooms) {
  EXPECT_EQ(lines(misplaced_headers(sources())), "");
}

// Whatever the commands print goes through tools/cli/terminal.cpp, where it is made harmless.
TEST(Commands, PrintThroughOneDoor) {
  const std::regex print(
      R"(\b(printf|fprintf|puts|fputs|putchar|fputc|putc|fwrite|perror|cout|cerr|clog|stdout|stderr)\b)");
  size_t n_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(GLIMPSE_SOURCE_DIR "/tools/cli")) {
    if (entry.path().filename() == "terminal.cpp") continue;
    ++n_files;
    std::ifstream in(entry.path());
    int number = 1;
    for (std::string line; std::getline(in, line); ++number) {
      line = std::regex_replace(line, std::regex(R"(//.*|"([^"\\]|\\.)*"|gnu::format\([^)]*\))"), "");  // no code
      EXPECT_FALSE(std::regex_search(line, print)) << entry.path() << ":" << number << ": " << line;
    }
  }
  EXPECT_GT(n_files, 15u);
}

// The checks themselves: what they must see.

TEST(SourceTree, ReadsTheWholeTree) {
  for (const char* path : {"engine/include/glimpse/glimpse.h", "engine/base/result.cpp", "kernels/quant/quant.h",
                           "loaders/gguf/gguf.cpp", "loaders/image/image.h", "tokenizer/bpe.cpp",
                           "engine/capi/session.cpp", "tools/cli/main.cpp", "tests/tree/include_test.cpp"}) {
    EXPECT_EQ(sources().count(path), 1u) << path;
  }
}

TEST(SourceTree, ParsesIncludeLinesAndSkipsComments) {
  const auto found = parse_includes(
      "// #include \"a.h\"\n"
      "/* text\n"
      "#include \"b.h\"\n"
      "*/ \n"
      "#include \"c/d.h\"  // why\n"
      "  #  include <vector>\n"
      "const char* s = \"#include <e>\";\n"
      "int x; /* short */\n"
      "#include \"f.h\"\n");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].target, "c/d.h");
  EXPECT_TRUE(found[0].quoted);
  EXPECT_EQ(found[0].line, 5);
  EXPECT_EQ(found[1].target, "vector");
  EXPECT_FALSE(found[1].quoted);
  EXPECT_EQ(found[2].target, "f.h");
}

TEST(SourceTree, SeesEveryForbiddenArrow) {
  const std::pair<const char*, const char*> forbidden[] = {
      {"engine/base/a.cpp", "kernels/quant/quant.h"},
      {"engine/base/a.cpp", "engine/runtime/ops.h"},
      {"kernels/norm/a.cpp", "loaders/gguf/gguf.h"},
      {"kernels/norm/a.cpp", "engine/runtime/ops.h"},
      {"loaders/gguf/a.cpp", "loaders/image/image.h"},
      {"loaders/image/a.cpp", "loaders/gguf/gguf.h"},
      {"loaders/gguf/a.cpp", "tokenizer/tokenizer.h"},
      {"tokenizer/a.cpp", "loaders/gguf/gguf.h"},
      {"tokenizer/a.cpp", "engine/model/model.h"},
      {"engine/preprocess/a.cpp", "loaders/gguf/gguf.h"},
      {"engine/preprocess/a.cpp", "engine/model/model.h"},
      {"engine/runtime/a.cpp", "engine/model/model.h"},
      {"engine/runtime/a.cpp", "loaders/gguf/gguf.h"},
      {"engine/model/a.cpp", "engine/generate/session.h"},
      {"engine/generate/a.cpp", "engine/include/glimpse/glimpse.h"},
      {"engine/capi/a.cpp", "tools/cli/terminal.h"},
      {"engine/model/a.cpp", "tests/golden/golden.h"},
      {"engine/capi/a.cpp", "bench/timer.h"},
      {"tools/cli/command_run.cpp", "engine/base/result.h"},
      {"tools/cli/command_run.cpp", "engine/generate/session.h"},
      {"tools/cli/main.cpp", "loaders/gguf/gguf.h"},
      {"tools/synth/synth.cpp", "tests/loaders/gguf_builder.h"},
      {"unknown/a.cpp", "engine/base/result.h"},
  };
  for (const auto& [file, target] : forbidden) {
    const auto found = broken_arrows({{file, {quoted(target)}}});
    ASSERT_EQ(found.size(), 1u) << file << " -> " << target;
    EXPECT_THAT(found[0], HasSubstr(std::string(file) + ":"));
  }
}

TEST(SourceTree, LetsAllowedArrowsPass) {
  const Sources allowed = {
      {"engine/capi/a.cpp", {quoted("engine/include/glimpse/glimpse.h"), quoted("engine/generate/session.h")}},
      {"engine/model/a.cpp", {quoted("engine/runtime/ops.h"), quoted("tokenizer/tokenizer.h")}},
      {"kernels/norm/a.cpp", {quoted("kernels/simd/row_avx2.h"), quoted("engine/base/result.h"), angled("vector")}},
      {"tools/cli/command_run.cpp", {quoted("engine/include/glimpse/glimpse.hpp"), quoted("tools/cli/terminal.h")}},
      {"tests/engine/a.cpp", {quoted("engine/model/model.h")}}};
  EXPECT_THAT(broken_arrows(allowed), IsEmpty());
  EXPECT_THAT(misplaced_headers(allowed), IsEmpty());
}

TEST(SourceTree, NamesFileAndLine) {
  EXPECT_THAT(broken_arrows({{"tokenizer/a.cpp", {quoted("engine/model/model.h")}}}),
              ElementsAre(HasSubstr("tokenizer/a.cpp:7: tokenizer/ must not include engine/model/model.h")));
  EXPECT_THAT(unknown_targets({{"tokenizer/a.cpp", {quoted("tokenizer/gone.h")}}}),
              ElementsAre("tokenizer/a.cpp:7: no file tokenizer/gone.h in the repository"));
}

TEST(SourceTree, SeesCycles) {
  EXPECT_THAT(cycles({{"kernels/a.h", {quoted("kernels/b.h")}}, {"kernels/b.h", {quoted("kernels/a.h")}}}),
              ElementsAre("kernels/b.h:7: includes in a circle: kernels/a.h -> kernels/b.h -> kernels/a.h"));
  EXPECT_THAT(cycles({{"kernels/a.h", {quoted("kernels/a.h")}}}), testing::SizeIs(1));
  EXPECT_THAT(cycles({{"kernels/a.h", {quoted("kernels/b.h")}}, {"kernels/b.h", {}}}), IsEmpty());
}

TEST(SourceTree, SeesMisplacedHeaders) {
  const std::pair<const char*, const char*> misplaced[] = {
      {"loaders/gguf/a.cpp", "png.h"},
      {"engine/model/a.cpp", "utf8proc.h"},
      {"kernels/norm/a.cpp", "omp.h"},
      {"engine/model/a.cpp", "thread"},
      {"engine/base/a.cpp", "iostream"},
      {"tokenizer/a.cpp", "nlohmann/json.hpp"},
      {"engine/base/a.cpp", "gtest/gtest.h"},
      {"kernels/norm/norm_avx2.cpp", "algorithm"},
      {"kernels/norm/norm_avx512bf16.cpp", "vector"},
      {"engine/model/a.cpp", "engine/base/result.h"},
      {"loaders/gguf/a.cpp", "cassert"},
  };
  for (const auto& [file, header] : misplaced) {
    EXPECT_THAT(misplaced_headers({{file, {angled(header)}}}), testing::SizeIs(1)) << file << " <" << header << ">";
  }
}

}  // namespace
}  // namespace glimpse::tree_test
