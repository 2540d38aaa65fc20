// Manual pages and shell completions: made of the commands themselves, and what their readers take.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;
using testing::Not;

// What a shell command prints; its exit status, or -1.
struct Said {
  int status = -1;
  std::string text;
};
Said shell(const std::string& command) {
  Said said;
  std::FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return said;
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) said.text.append(buffer, n);
  said.status = pclose(pipe);
  return said;
}
bool has(const std::string& program) {
  return shell("command -v " + program).status == 0;
}

// The words that bash offers for a line whose last word is being typed.
std::string offered(const std::string& script, const std::vector<std::string>& words) {
  std::string line = "source " + script + "; COMP_WORDS=(";
  for (const std::string& word : words) line += "'" + word + "' ";
  line += "); COMP_CWORD=" + std::to_string(words.size() - 1) + "; _glimpse; echo \"${COMPREPLY[*]}\"";
  const Said said = shell("bash --norc -c \"" + [&] {
    std::string escaped;
    for (const char c : line)
      escaped += (c == '"' || c == '$' || c == '\\') ? std::string("\\") + c : std::string(1, c);
    return escaped;
  }() + "\"");
  EXPECT_EQ(said.status, 0) << said.text;
  return said.text;
}

TEST(Documents, BashOffersCommandsOptionsAndChoices) {
  if (!has("bash")) GTEST_SKIP() << "no bash";
  const ScratchDir dir;
  const RunResult result = run_glimpse({"completion", "bash"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string script = dir.write("glimpse.bash", result.out);
  EXPECT_EQ(offered(script, {"glimpse", "in"}), "inspect\n");
  EXPECT_THAT(offered(script, {"glimpse", ""}),
              testing::AllOf(HasSubstr("run "), HasSubstr("eval "), Not(HasSubstr("documents"))));
  EXPECT_EQ(offered(script, {"glimpse", "run", "--image-ma"}), "--image-max-tokens --image-max-pixels\n");
  EXPECT_EQ(offered(script, {"glimpse", "run", "--kv-type", "q"}), "q8_0\n");
  EXPECT_EQ(offered(script, {"glimpse", "run", "-m", "mod"}), "\n") << "a file: bash's own words";
  EXPECT_EQ(offered(script, {"glimpse", "help", "pe"}), "perplexity\n");
  EXPECT_EQ(offered(script, {"glimpse", "completion", "z"}), "zsh\n");
}

TEST(Documents, OtherShellsReadTheirs) {
  const ScratchDir dir;
  for (const std::string name : {"zsh", "fish"}) {
    const RunResult result = run_glimpse({"completion", name});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    for (const char* word : {"inspect", "kv-type", "q8_0"}) EXPECT_THAT(result.out, HasSubstr(word)) << name;
    if (!has(name)) {
      std::printf("no %s here: its script was not read\n", name.c_str());
      continue;
    }
    const Said said = shell(name + " -n " + dir.write("glimpse." + name, result.out));
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_EQ(said.text, "") << name;
  }
  EXPECT_EQ(run_glimpse({"completion", "tcsh"}).exit_code, 2);
}

TEST(Documents, EveryCommandHasAPage) {
  const ScratchDir dir;
  const RunResult result = run_glimpse({"documents", dir.file("share")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string pages = dir.file("share/man/man1");
  std::string all;
  for (const auto& entry : std::filesystem::directory_iterator(pages)) {
    all += entry.path().filename().string() + " ";
    if (!has("groff")) continue;
    const Said said = shell("groff -man -Tutf8 -ww -z " + entry.path().string());
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_EQ(said.text, "") << entry.path();
  }
  for (const char* page : {"glimpse.1", "glimpse-run.1", "glimpse-eval.1", "glimpse-completion.1"}) {
    EXPECT_THAT(all, HasSubstr(page));
  }
  const std::string run = read_all(pages + "/glimpse-run.1");
  EXPECT_THAT(run, HasSubstr("\\fB\\-\\-kv\\-type\\fR \\fIf16|bf16|f32|q8_0\\fR"));
  EXPECT_THAT(run, HasSubstr("(default: f16)"));
  if (has("groff")) {
    const Said said = shell("groff -man -Tascii -P-cbou " + pages + "/glimpse-run.1");
    EXPECT_THAT(said.text, HasSubstr("-m, --model TEXT"));
    EXPECT_THAT(said.text, HasSubstr("glimpse run [OPTIONS] [prompt]"));
  }
}

}  // namespace
}  // namespace glimpse::cli_test
