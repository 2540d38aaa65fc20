// glimpse compare, with scripts in the place of llama.cpp's programs that print what those printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kData = GLIMPSE_TEST_DIR "/compare/data/";

// A folder with programs that print recorded output, and a log of how they were called.
class Peer {
 public:
  Peer() {
    script("llama-bench", "--n-depth --flash-attn --output --device", "cat " + kData + "llama_bench.json");
    script("llama-mtmd-cli",
           "--mmproj --image-max-tokens --perf --verbosity --jinja --flash-attn --device --no-mmproj-offload",
           "cat " + kData + "mtmd.log >&2; printf '\\n an answer\\n\\n'");
    // glimpse itself, but for figures of texts.
    write("glimpse",
          "if [ \"$1\" = bench ]; then cat " + kData + "llama_bench.json; else exec " GLIMPSE_BINARY " \"$@\"; fi");
  }
  void write(const std::string& name, const std::string& body) {
    const std::string path =
        dir_.write(name, "#!/bin/sh\necho \"" + name + " $*\" >> " + dir_.file("calls") + "\n" + body + "\n");
    chmod(path.c_str(), 0755);
  }
  void script(const std::string& name, const std::string& help, const std::string& body) {
    write(name, "case \"$1\" in --help) echo '" + help +
                    "'; exit 0;; --version) echo 'version: 1234 (abcdef)'; exit 0;; esac\n" + body);
  }
  const ScratchDir& dir() const { return dir_; }
  std::string calls() const { return read_all(dir_.file("calls")); }

  RunResult compare(std::vector<std::string> more, bool pictures = true) const {
    std::vector<std::string> arguments = {"compare",
                                          "--llama-bin",
                                          dir_.path(),
                                          "--glimpse-bin",
                                          dir_.file("glimpse"),
                                          "-m",
                                          golden("tied/model.gguf"),
                                          "-t",
                                          "1"};
    if (pictures) {
      arguments.insert(arguments.end(), {"--mmproj", golden("tied/mmproj.gguf"), "--image", kPicture,
                                         "--image-max-tokens", "16", "-c", "256", "-n", "4"});
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_glimpse(arguments);
  }

 private:
  ScratchDir dir_;
};

TEST(Compare, ReportsEveryStageOfBothEngines) {
  const Peer peer;
  const std::string html = peer.dir().file("r.html"), markdown = peer.dir().file("r.md");
  const RunResult result =
      peer.compare({"--pairs", "2", "-p", "what?", "-p", "why?", "--html", html, "--markdown", markdown});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("pair 2 of 2: llama.cpp"));
  const std::string text = read_all(markdown);
  for (const char* word : {"llama.cpp 1234 (abcdef)", "| image encode |", "| prompt with picture |", "| first token |",
                           "| decode after picture |", "| load |", "| peak memory |", "| prompt of 16 |", "| decode |",
                           "| decode after 64 |", "2079 ms", "what?", "why?", "an answer"}) {
    EXPECT_THAT(text, HasSubstr(word));
  }
  EXPECT_THAT(read_all(html), HasSubstr("<svg"));
  // In turn, and the second pair the other way round.
  const std::string calls = peer.calls();
  size_t at = 0;
  for (const char* call : {"\nglimpse run", "\nllama-mtmd-cli -m", "\nllama-mtmd-cli -m", "\nglimpse run"}) {
    at = calls.find(call, at + 1);
    ASSERT_NE(at, std::string::npos) << call << " in " << calls;
    at = calls.find("-p why?", at);  // of both questions
  }
}

TEST(Compare, DepthsAndVisionPrecisionArePassedOn) {
  const Peer peer;
  const RunResult result = peer.compare({"--quick", "--n-depth", "32,64", "--vision-precision", "f32"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("also after 32, also after 64. Pictures of at most 16 tokens, answers of 4; vision "
                                    "precision of glimpse: f32."));
  for (const char* call : {"llama-bench -m", "glimpse bench -m"}) {
    for (const char* depth : {"-d 0 ", "-d 32 ", "-d 64 "}) {
      EXPECT_THAT(peer.calls(), testing::ContainsRegex(std::string(call) + "[^\n]*" + depth));
    }
  }
  EXPECT_THAT(peer.calls(), testing::ContainsRegex("glimpse run[^\n]*--vision-precision f32"));
  EXPECT_THAT(peer.calls(), Not(testing::ContainsRegex("llama-mtmd-cli[^\n]*--vision-precision")));
}

TEST(Compare, SideFilesAreGlimpsesAloneAndThereBeforeTheFirstPair) {
  const auto count_runs = [](const std::string& calls) {
    size_t n = 0;
    for (size_t at = calls.find("glimpse run"); at != std::string::npos; at = calls.find("glimpse run", at + 1)) ++n;
    return n;
  };
  const ScratchDir packs;
  const Peer with, without;
  const RunResult result = with.compare({"--quick", "--pack-cache", packs.path(), "--pack-cache-map"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("glimpse starts from side files."));
  EXPECT_THAT(with.calls(), testing::ContainsRegex("glimpse run[^\n]*--pack-cache [^\n]* --pack-cache-map"));
  EXPECT_THAT(with.calls(), Not(testing::ContainsRegex("llama-mtmd-cli[^\n]*--pack-cache")));
  EXPECT_EQ(packs.list().size(), 2u);
  EXPECT_THAT(without.compare({"--quick"}).out, Not(HasSubstr("side files")));
  EXPECT_EQ(count_runs(with.calls()), count_runs(without.calls()) + 1);
}

// Recorded output of glimpse, too: there may be no GPU.
TEST(Compare, BothEnginesRunOnTheSameDevice) {
  Peer peer;
  peer.write("glimpse", "cat " + kData + "llama_bench.json");
  ASSERT_EQ(
      peer.compare({"--quick", "--n-depth", "0", "--device", "cuda", "--cuda-decode", "launches"}, false).exit_code, 0);
  EXPECT_THAT(peer.calls(), testing::ContainsRegex("glimpse bench[^\n]*--device cuda --cuda-decode launches"));
  EXPECT_THAT(peer.calls(), testing::ContainsRegex("llama-bench -m[^\n]*-ngl 99"));
  const Peer other;
  const RunResult result = other.compare({"--quick", "--n-depth", "0", "--device", "cuda", "--gpu-layers", "0"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("On the CPU."));
  EXPECT_THAT(other.calls(), Not(testing::ContainsRegex("-ngl|--device cuda")));
  for (const char* call :
       {"llama-bench -m[^\n]*--device none", "llama-mtmd-cli -m[^\n]*--device none --no-mmproj-off"}) {
    EXPECT_THAT(other.calls(), testing::ContainsRegex(call));
  }
}

TEST(Compare, DeviceAutoIsAnsweredOnceForBoth) {
  const RunResult gpu = run_glimpse({"run", "-m", golden("tied/model.gguf"), "-p", "a", "-n", "1", "--device", "cuda"});
  const Peer peer;
  ASSERT_EQ(peer.compare({"--quick", "--n-depth", "0", "--device", "auto"}, false).exit_code, 0);
  const bool there = gpu.exit_code == 0;
  EXPECT_THAT(peer.calls(),
              testing::ContainsRegex(there ? "llama-bench -m[^\n]*-ngl 99" : "llama-bench -m[^\n]*--device none"));
}

TEST(Compare, PicturesAreComparedWithoutTexts) {
  const Peer peer;
  const RunResult result = peer.compare({"--quick", "--n-prompt", "0", "--n-gen", "0"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("| image encode |"));
  EXPECT_THAT(result.out, Not(HasSubstr("| decode |")));
  EXPECT_THAT(peer.calls(), Not(HasSubstr("llama-bench -m")));
}

// In the place of llama-server, our own with the demo model: the clients cannot tell.
TEST(Compare, ServersOfBothEnginesAreAskedByManyClients) {
  Peer peer;
  const std::string models = GLIMPSE_SOURCE_DIR "/models/";
  peer.script("llama-server", "--parallel --port --device --jinja",
              "while [ \"$1\" != --port ]; do shift; done; exec " GLIMPSE_BINARY " serve -m " + models +
                  "demo-Q8_0.gguf --mmproj " + models + "mmproj-demo-f16.gguf --port $2 -t 1");
  const RunResult result = run_glimpse({"compare",
                                        "--llama-bin",
                                        peer.dir().path(),
                                        "--glimpse-bin",
                                        peer.dir().file("glimpse"),
                                        "-m",
                                        models + "demo-Q8_0.gguf",
                                        "--mmproj",
                                        models + "mmproj-demo-f16.gguf",
                                        "-t",
                                        "1",
                                        "--quick",
                                        "--parallel",
                                        "2",
                                        "--n-prompt",
                                        "0",
                                        "--n-gen",
                                        "0",
                                        "-c",
                                        "512",
                                        "-n",
                                        "8",
                                        "-p",
                                        "Describe a square."});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* row : {"| answers, 2 clients |", "| all answers, 2 clients |", "| first token, 2 clients |",
                          "| between tokens, 2 clients |", "Servers with 2 clients at a time"}) {
    EXPECT_THAT(result.out, HasSubstr(row));
  }
  EXPECT_THAT(peer.calls(),
              testing::ContainsRegex("llama-server -m[^\n]*--parallel 2 -t 1 -c 1024 [^\n]*--device none"));
  EXPECT_THAT(peer.calls(), testing::ContainsRegex("glimpse serve -m[^\n]*--parallel 2 -t 1 -c 512"));
  EXPECT_THAT(peer.calls(), Not(HasSubstr("llama-bench -m")));
  peer.script("llama-server", "--parallel --port --device --jinja", "echo no such model >&2; exit 3");
  const RunResult broken =
      peer.compare({"--quick", "--parallel", "2", "--n-prompt", "0", "--n-gen", "0", "--timeout", "3"}, false);
  EXPECT_EQ(broken.exit_code, 1);
  EXPECT_THAT(broken.err, HasSubstr("llama-server ended"));
  EXPECT_THAT(broken.err, HasSubstr("no such model"));
}

TEST(Compare, TextModelsAreComparedWithoutPictures) {
  const Peer peer;
  const RunResult result = peer.compare({"--quick"}, false);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("| decode |"));
  EXPECT_THAT(result.out, Not(HasSubstr("image encode")));
  EXPECT_THAT(peer.calls(), Not(HasSubstr("mtmd")));
}

void expect_refused(const RunResult& result, const std::vector<std::string>& words) {
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_EQ(result.out, "");
  for (const std::string& word : words) EXPECT_THAT(result.err, HasSubstr(word));
}

TEST(Compare, MissingAndOldProgramsAreNamed) {
  Peer peer;
  std::filesystem::remove(peer.dir().file("llama-bench"));
  expect_refused(peer.compare({"--quick"}), {"llama-bench", "--llama-bin"});
  peer.script("llama-bench", "--output", "true");
  expect_refused(peer.compare({"--quick"}), {"llama-bench is too old", "--n-depth"});
  peer.script("llama-bench", "--n-depth --flash-attn --output --device", "echo oops >&2; exit 4");
  expect_refused(peer.compare({"--quick"}), {"llama-bench failed (status 4)", "oops"});
  peer.script("llama-bench", "--n-depth --flash-attn --output --device", "echo no json");
  expect_refused(peer.compare({"--quick"}), {"-o json"});
  peer.script("llama-bench", "--n-depth --flash-attn --output --device", "sleep 60");
  expect_refused(peer.compare({"--quick", "--timeout", "2"}), {"llama-bench did not end within 2 s"});
  peer.script("llama-mtmd-cli",
              "--mmproj --image-max-tokens --perf --verbosity --jinja --flash-attn --device --no-mmproj-offload",
              "echo quiet");
  expect_refused(peer.compare({"--quick"}), {"llama-mtmd-cli printed no line", "too old"});
}

TEST(Compare, ReportsAreNotOverwrittenAndNotLeftHalf) {
  const Peer peer;
  const std::string html = peer.dir().write("r.html", "precious");
  expect_refused(peer.compare({"--quick", "--html", html}), {"exists already"});
  EXPECT_EQ(read_all(html), "precious");
  EXPECT_FALSE(std::filesystem::exists(peer.dir().file("calls")));  // said before anything ran
  EXPECT_EQ(peer.compare({"--quick", "--html", html, "--force"}).exit_code, 0);
  EXPECT_THAT(read_all(html), HasSubstr("</html>"));
  expect_refused(peer.compare({"--quick", "--html", "/nowhere/r.html"}), {"/nowhere"});
}

TEST(Compare, InterruptEndsTheProgramThatRunsAndWritesNothing) {
  Peer peer;
  peer.script("llama-bench", "--n-depth --flash-attn --output --device", "sleep 60");
  const std::string html = peer.dir().file("r.html"), calls = peer.dir().file("calls");
  bool sent = false;
  RunSetup setup;
  setup.while_running = [&](pid_t pid) {
    if (sent || !std::filesystem::exists(calls) || read_all(calls).find("llama-bench -m") == std::string::npos) return;
    sent = kill(pid, SIGINT) == 0;
  };
  const RunResult result =
      run_glimpse({"compare", "--llama-bin", peer.dir().path(), "--glimpse-bin", peer.dir().file("glimpse"), "-m",
                   golden("tied/model.gguf"), "-t", "1", "--quick", "--html", html},
                  setup);
  EXPECT_TRUE(sent);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_FALSE(std::filesystem::exists(html));
}

TEST(Compare, WrongFlagsAndFiles) {
  const Peer peer;
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--pairs", "0"},
                                                {"--n-gen", "-1"},
                                                {"--timeout", "0"},
                                                {"--vision-precision", "f16"},
                                                {"--n-depth", "1,x"}}) {
    EXPECT_EQ(peer.compare(wrong).exit_code, 2) << wrong[0];
  }
  EXPECT_EQ(run_glimpse({"compare", "-m", golden("tied/model.gguf")}).exit_code, 2);
  expect_refused(peer.compare({"--image", "/nowhere/cat.jpg"}), {"/nowhere/cat.jpg"});
  expect_refused(peer.compare({"--image", kPicture}, false), {"--mmproj"});
  expect_refused(peer.compare({"--n-prompt", "0", "--n-gen", "0"}, false), {"nothing to compare"});
}

}  // namespace
}  // namespace glimpse::cli_test
