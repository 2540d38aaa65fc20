// Help texts and wrong flags.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

TEST(Usage, HelpNamesTheCommands) {
  const RunResult result = run_glimpse({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* command : {"run", "inspect", "synth", "quantize", "bench", "perplexity", "diff", "compare"})
    EXPECT_THAT(result.out, HasSubstr(command));
}

TEST(Usage, HelpOfACommandNamesItsFlags) {
  const std::pair<const char*, std::vector<const char*>> commands[] = {
      {"run", {"-m,",       "--model",     "--mmproj", "--image",     "-p,",
               "--prompt",  "-f,",         "--system", "-n,",         "-c,",
               "-t,",       "--temp",      "--top-k",  "--top-p",     "--min-p",
               "-s,",       "--seed",      "--stop",   "--json",      "--image-min-tokens",
               "--verbose", "--speculate", "--device", "--gpu-layers", "--cuda-decode"}},
      {"inspect", {"file", "--json", "--check-data", "--no-tensors", "--all"}},
      {"synth", {"-m,", "--mmproj", "--preset", "--type", "--seed", "--force", "tiny"}},
      {"quantize",
       {"input", "output", "type", "--imatrix", "-t,", "--pure", "--output-tensor-type", "--token-embedding-type",
        "--tensor-type", "--allow-requantize", "--dry-run", "--force", "--json", "--list"}},
      {"bench", {"-m,",   "--mmproj", "-p,",     "-n,",         "--pg",          "-d,",       "--image",   "--ttft",
                 "--e2e", "-r,",      "-t,",     "-b,",         "-o,",           "--kv-type", "--profile", "--trace",
                 "jsonl", "sql",      "--force", "--no-warmup", "--no-roofline", "-pg",       "-ctk"}},
      {"perplexity",
       {"-m,", "-f,", "-c,", "--chunks", "--prompts", "--mmproj", "--kl-base", "--save-base", "--kl-divergence",
        "--precision", "--reference", "--kv-type", "--f32-weights", "--json"}},
      {"diff",
       {"-m,", "--mmproj", "--image", "-p,", "--raw", "--against", "--dump", "--only", "--budget", "--precision",
        "--json"}}};
  for (const auto& [command, words] : commands) {
    const RunResult result = run_glimpse({command, "--help"});
    EXPECT_EQ(result.exit_code, 0) << command;
    EXPECT_EQ(result.err, "") << command;
    for (const char* word : words) EXPECT_THAT(result.out, HasSubstr(word)) << command;
  }
}

TEST(Usage, VersionIsOneLine) {
  const RunResult result = run_glimpse({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, testing::MatchesRegex("glimpse [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(Usage, WrongFlagsExitWithTwo) {
  const std::string model = golden("tied/model.gguf");
  const std::vector<std::string> wrong[] = {
      {},
      {"frobnicate"},
      {"--frobnicate"},
      {"run"},
      {"run", "-p", "hello"},
      {"run", "-m"},
      {"run", "-m", model, "-p", "hello", "--frobnicate"},
      {"run", "-m", model, "-p", "hello", "-n", "many"},
      {"run", "-m", model, "-p", "hello", "--temp", "warm"},
      {"run", "-m", model, "-p", "hello", "-c", "99999999999999999999"},
      {"run", "-m", model, "-p", "hello", "--kv-type"},
      {"run", "-m", model, "-p", "hello", "--speculate"},
      {"run", "-m", model, "-p", "hello", "--speculate", "16"},
      {"run", "-m", model, "-p", "hello", "--speculate", "-1"},
      {"run", "-m", model, "-p", "hello", "--vision-precision", "int2"},
      {"run", "-m", model, "-p", "hello", "--device", "tpu"},
      {"run", "-m", model, "-p", "hello", "--gpu-layers", "12"},
      {"run", "-m", model, "-p", "hello", "--cuda-decode", "fast"},
      {"run", "-m", model, "-p", "hello", "--cuda-decode"},
      {"run", "-m", model, "one question", "and another"},
      {"inspect"},
      {"inspect", model, "--frobnicate"},
      {"inspect", model, model},
      {"synth", "--frobnicate"},
      {"synth", "-m", "/no/such/dir/a.gguf", "--layers", "two"},
      {"bench"},
      {"bench", "-m", model, "--frobnicate"},
      {"bench", "-m", model, "-p", "many"},
      {"bench", "-m", model, "-p", "8,x"},
      {"bench", "-m", model, "-n"},
      {"bench", "-m", model, "-r", "0"},
      {"bench", "-m", model, "-t", "-1"},
      {"bench", "-m", model, "-t", "1,4096"},
      {"bench", "-m", model, "-b", "0"},
      {"bench", "-m", model, "-o", "xml"},
      {"bench", "-m", model, "-ctk", "q4_0"},
      {"bench", "-m", model, "--vision-precision", "int2"},
      {"bench", "-m", model, "--image-max-tokens", "-1"},
      {"bench", "-m", model, "extra"},
  };
  for (const auto& arguments : wrong) {
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments) << result.err;
    EXPECT_EQ(result.out, "") << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, HasSubstr("--help")) << testing::PrintToString(arguments);
  }
}

TEST(Usage, EveryCommandThatRunsAModelTakesTheSameTypesOfCache) {
  const std::string model = golden("tied/model.gguf");
  const std::vector<std::string> commands[] = {
      {"run", "-p", "x"}, {"eval"}, {"bench"}, {"diff", "-p", "x", "--against", "ref"}, {"perplexity", "-f", "x"}};
  for (std::vector<std::string> command : commands) {
    EXPECT_THAT(run_glimpse({command[0], "--help"}).out,
                testing::ContainsRegex("--kv-type[^\n]* TEXT:\\{f16,bf16,f32,q8_0\\}"))
        << command[0];
    command.insert(command.end(), {"-m", model, "--mmproj", golden("tied/mmproj.gguf")});
    for (const char* type : {"f8", "q8", "F16", ""}) {
      std::vector<std::string> arguments = command;
      arguments.insert(arguments.end(), {"--kv-type", type});
      const RunResult result = run_glimpse(arguments);
      EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments) << result.err;
      EXPECT_EQ(result.out, "") << testing::PrintToString(arguments);
      EXPECT_THAT(result.err, HasSubstr("kv-type")) << testing::PrintToString(arguments);
    }
  }
}

TEST(Usage, LostOutputIsAnError) {
  RunSetup full;
  full.stdout_path = "/dev/full";
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"inspect", golden("tied/model.gguf")},
        std::vector<std::string>{"run", "-m", golden("tied/model.gguf"), "-p", "hello", "-n", "2"},
        std::vector<std::string>{"bench", "-m", golden("tied/model.gguf"), "-p", "4", "-n", "0", "-r", "1",
                                 "--no-roofline"}}) {
    const RunResult result = run_glimpse(arguments, full);
    EXPECT_EQ(result.exit_code, 1) << arguments[0];
    EXPECT_THAT(result.err, HasSubstr("cannot write to standard output")) << arguments[0];
  }
}

}  // namespace
}  // namespace glimpse::cli_test
