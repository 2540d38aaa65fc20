// --device and its companions in the commands that share them with `glimpse run`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

struct Command {
  ScratchDir dir;
  std::vector<std::string> eval, perplexity;

  Command() {
    dir.write("a.png", read_all(kPicture));
    dir.write("cases.json", R"({"cases": [{"task": "t", "pictures": ["a.png"], "turns": [["what?", "x"]],
                                           "score": "exact"}]})");
    eval = {
        "eval", "-m",    golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "--cases", dir.path(), "-n",
        "2",    "--json"};
    perplexity = {"perplexity",
                  "-m",
                  golden("tied/model.gguf"),
                  "-f",
                  GLIMPSE_TEST_DIR "/eval/data/text.txt",
                  "-c",
                  "16",
                  "--chunks",
                  "1",
                  "--json"};
  }
  static RunResult run(std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_glimpse(arguments);
  }
};

TEST(Device, CudaIsUsedOrSaidToBeMissing) {
  const Command c;
  for (const auto& command : {c.eval, c.perplexity}) {
    const RunResult result = Command::run(command, {"--device", "cuda"});
    if (result.exit_code == 0) continue;
    EXPECT_EQ(result.exit_code, 1) << command[0];
    EXPECT_EQ(result.out, "") << command[0];
    EXPECT_THAT(result.err, testing::AnyOf(HasSubstr("glimpse: no CUDA device: "), HasSubstr("has no CUDA")));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST(Device, NoGpuLayersAreTheCpu) {
  const Command c;
  for (const auto& command : {c.eval, c.perplexity}) {
    const RunResult zero = Command::run(command, {"--device", "cuda", "--gpu-layers", "0"});
    EXPECT_EQ(zero.exit_code, 0) << zero.err;
    EXPECT_EQ(zero.out, Command::run(command, {}).out);
  }
}

TEST(Device, UnknownNamesAreRefused) {
  const Command c;
  for (const auto& command : {c.eval, c.perplexity, std::vector<std::string>{"run", "-m", "m.gguf"}}) {
    for (const char* option : {"--device", "--gpu-layers", "--cuda-decode"}) {
      const RunResult result = Command::run(command, {option, "tpu"});
      EXPECT_EQ(result.exit_code, 2) << command[0] << option;
      EXPECT_THAT(result.err, HasSubstr(option));
    }
  }
}

}  // namespace
}  // namespace glimpse::cli_test
