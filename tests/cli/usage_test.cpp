// Help texts and wrong flags.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

TEST(Usage, HelpNamesTheCommands) {
  const RunResult result = run_glimpse({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  // Those that the source adds, whichever come.
  const std::string source = read_all(GLIMPSE_SOURCE_DIR "/tools/cli/commands.h");
  std::vector<std::string> commands = {"help", "completion"};
  const std::regex declaration("void add_(\\w+)\\(CLI::App& app");
  for (std::sregex_iterator at(source.begin(), source.end(), declaration), end; at != end; ++at) {
    commands.push_back((*at)[1]);
  }
  EXPECT_GE(commands.size(), 11u);
  for (const std::string& command : commands) {
    EXPECT_THAT(result.out, HasSubstr("\n  " + command + " ")) << command;
    if (command == "help") continue;
    EXPECT_THAT(run_glimpse({command, "--help"}).out, HasSubstr("Usage: glimpse " + command + " [OPTIONS]"));
  }
}

TEST(Usage, HelpIsACommandToo) {
  EXPECT_EQ(run_glimpse({"help"}).out, run_glimpse({"--help"}).out);
  const RunResult run = run_glimpse({"help", "run"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.out, run_glimpse({"run", "--help"}).out);
  EXPECT_EQ(run_glimpse({"help", "rum"}).exit_code, 2);
}

// What is wrong, and what was probably meant; after the name of the program that says it.
TEST(Usage, NamesTheNearest) {
  const std::string model = golden("tied/model.gguf");
  const std::pair<std::vector<std::string>, const char*> slips[] = {
      {{"rnu"}, "glimpse: there is no command 'rnu'; did you mean run?"},
      {{"help", "inpsect"}, "glimpse: there is no command 'inpsect'; did you mean inspect?"},
      {{"quant"}, "did you mean quantize?"},
      {{"frobnicate"}, "glimpse: there is no command 'frobnicate'\n"},
      {{"run", "--promt", "x"}, "glimpse run: there is no option --promt; did you mean --prompt?"},
      {{"run", "-image", "x"}, "there is no option -image; did you mean --image?"},
      {{"run", "--image-max", "x"}, "did you mean --image-max-"},
      {{"run", "--topk=3"}, "there is no option --topk; did you mean --top-k?"},
      {{"bench", "--cuda-decod", "graph"},
       "glimpse bench: there is no option --cuda-decod; did you mean --cuda-decode?"},
      {{"run", "--frobnicate"}, "glimpse run: there is no option --frobnicate\n"},
      {{"version"}, "there is no command 'version'; did you mean --version?"},
      {{"run", "-n=3"}, "there is no option -n=3; did you mean -n 3?"},
      {{"run", "-m", model, "-t", "1", "-t", "2", "x"}, "glimpse run: --threads is given more than once\n"},
      {{"run", "-m", model, "x", "-n"}, "glimpse run: --n-predict needs a value\n"},
      {{"run", "-m", model, "-n", "99999999999", "x"}, "--n-predict '99999999999': want a whole number"},
      {{"run", "-m", model, "-n", "1.5", "x"}, "--n-predict '1.5': want a whole number"},
      {{"run", "-m", model, "--temp", "hot", "x"}, "--temp 'hot': want a number\n"},
      {{"run", "-m", model, "-s", "-1", "x"}, "--seed: '-1': want a whole number from 0 to 18446744073709551615"},
      {{"run", "-m", model, "-s", "18446744073709551616", "x"}, "want a whole number from 0 to"},
      {{"run", "-m", model, "a.png", "What?"},
       "too many arguments: What? (a question of several words stands in quotes"},
      {{"quantize"}, "IN.gguf, OUT.gguf and TYPE are required"},
      {{"quantize", "a.gguf", "b.gguf", "Q4_KM"}, "'Q4_KM' files cannot be written; did you mean Q4_K_"},
      {{"-m", model}, "glimpse: '-m' comes before the command"},
      {{"run", "-m", model, "-p", "x", "--logprobs", "3"}, "--logprobs requires --json"},
      {{"run", "-m", model, "-p", "x", "-f", "y"}, "--prompt excludes --file"}};
  for (const auto& [arguments, text] : slips) {
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments) << result.err;
    EXPECT_EQ(result.out, "") << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, HasSubstr(text)) << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, HasSubstr(" --help lists")) << testing::PrintToString(arguments);
  }
}

// A question or a name may begin with a dash.
TEST(Usage, ValuesMayBeginWithADash) {
  for (const char* question : {"-5 + 3 = ?", "-fast or slow?", "--really?", "-"}) {
    RunSetup setup;
    setup.input = "on standard input";
    const RunResult result =
        run_glimpse({"run", "-m", golden("tied/model.gguf"), "-n", "1", "--system", "-x", "-p", question}, setup);
    EXPECT_EQ(result.exit_code, 0) << question << result.err;
  }
  EXPECT_THAT(run_glimpse({"run", "-m", golden("tied/model.gguf"), "-p", "--json"}).err,
              HasSubstr("glimpse run: -p needs a value, and --json is an option"));
  EXPECT_EQ(run_glimpse({"run", "-m", golden("tied/model.gguf"), "-n", "1", "--prompt=--json"}).exit_code, 0);
  EXPECT_EQ(run_glimpse({"run", "-m", golden("tied/model.gguf"), "-n1", "-t1", "--", "-p"}).exit_code, 0);
}

// Flags of llama.cpp are known, or refused by their own name and with the reason.
TEST(Usage, LlamaFlagsAreKnown) {
  const std::string model = golden("tied/model.gguf");
  const std::string plain = run_glimpse({"run", "-m", model, "-p", "hello", "-n", "3"}).out;
  const std::vector<std::string> same[] = {{"-ngl", "99"},
                                           {"-ngl", "0"},
                                           {"--n-gpu-layers", "999"},
                                           {"-ngl", "all", "--device", "cpu"},
                                           {"-fa"},
                                           {"-fa", "on"},
                                           {"--flash-attn", "auto"},
                                           {"-ctk", "f16"},
                                           {"--cache-type-k", "f16"},
                                           {"-ub", "512"},
                                           {"--no-mmap"},
                                           {"-st", "-no-cnv", "--jinja"},
                                           {"--no-warmup"},
                                           {"--temperature", "0"},
                                           {"--predict", "3"}};
  for (std::vector<std::string> flags : same) {
    std::vector<std::string> arguments = {"run", "-m", model, "-p", "hello"};
    if (flags[0] != "--predict") arguments.insert(arguments.end(), {"-n", "3"});
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 0) << testing::PrintToString(flags) << result.err;
    EXPECT_EQ(result.out, plain) << testing::PrintToString(flags);
  }
}

TEST(Usage, LlamaFlagsAreRefusedByName) {
  const std::pair<std::vector<std::string>, const char*> refused[] = {
      {{"-ngl", "12"}, "--gpu-layers 12: a model is on the GPU whole"},
      {{"--gpu-layers", "many"}, "gpu-layers"},
      {{"-fa", "off"}, "-fa off of llama.cpp: attention always"},
      {{"-ctv", "q8_0"}, "-ctv of llama.cpp: keys and values have one type"},
      {{"-hf", "some/model"}, "-hf of llama.cpp: nothing is fetched"},
      {{"--mirostat", "2"}, "--mirostat of llama.cpp: there is no such sampler"},
      {{"--lora", "x.gguf"}, "--lora of llama.cpp: adapters"},
      {{"-sm", "row"}, "-sm of llama.cpp: a model is on one device"},
      {{"-cnv"}, "-cnv of llama.cpp: it asks one question, glimpse chat"},
      {{"-ngk", "99"}, "glimpse run: there is no option -ngk"}};
  for (const auto& [flags, text] : refused) {
    std::vector<std::string> arguments = {"run", "-m", golden("tied/model.gguf"), "-p", "hello"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(flags) << result.err;
    EXPECT_EQ(result.out, "") << testing::PrintToString(flags);
    EXPECT_THAT(result.err, HasSubstr(text)) << testing::PrintToString(flags);
  }
  EXPECT_THAT(run_glimpse({"inspect", golden("tied/model.gguf"), "-ngl", "99"}).err,
              HasSubstr("glimpse inspect: there is no option -ngl"));
}

TEST(Usage, HelpOfACommandNamesItsFlags) {
  const std::pair<const char*, std::vector<const char*>> commands[] = {
      {"run",
       {"-m,",
        "--model",
        "--mmproj",
        "--image",
        "-p,",
        "--prompt",
        "-f,",
        "--system",
        "-n,",
        "-c,",
        "-t,",
        "--temp",
        "--top-k",
        "--top-p",
        "--min-p",
        "-s,",
        "--seed",
        "--stop",
        "--json",
        "--image-min-tokens",
        "--verbose",
        "--speculate",
        "--device",
        "--gpu-layers",
        "--cuda-decode",
        "--tools",
        "--thinking",
        "--draft-model",
        "--draft-tokens",
        "--draft-min-p"}},
      {"chat",
       {"-m,", "--mmproj", "--image", "--system", "--history", "--speculate", "--draft-model", "-n,", "--temp",
        "--kv-type"}},
      {"batch", {"input",     "-p,",        "-m,",      "--mmproj", "-o,",         "--output-format", "table",
                 "jsonl",     "csv",        "--resume", "--force",  "--unordered", "--parallel",      "--input-format",
                 "--pdf-dpi", "--no-cache", "-n,",      "--temp",   "--seed",      "--system",        "--device"}},
      {"embed",
       {"-m,", "--mmproj", "-f,", "--jsonl", "--image", "-o,", "--instruction", "--pooling", "--normalize",
        "--output-format"}},
      {"rerank", {"-m,", "-q,", "-f,", "--jsonl", "--image", "-o,", "--instruction"}},
      {"load",
       {"url", "--image", "-p,", "-n,", "--concurrency", "--requests", "--same", "--extra", "--wait", "md", "csv"}},
      {"serve",
       {"-m,", "--mmproj", "--host", "--port", "--api-key-file", "--cors-origin", "--media-path", "--parallel",
        "--queue", "--max-body", "--max-connections", "--grace", "--image-cache", "-c,", "--temp", "--seed",
        "--device"}},
      {"inspect", {"file", "--json", "--check-data", "--no-tensors", "--all"}},
      {"synth", {"-m,", "--mmproj", "--preset", "--type", "--seed", "--force", "tiny"}},
      {"quantize",
       {"input", "output", "type", "--imatrix", "-t,", "--pure", "--output-tensor-type", "--token-embedding-type",
        "--tensor-type", "--allow-requantize", "--dry-run", "--force", "--json", "--list"}},
      {"bench",
       {"-m,",     "--mmproj",    "-p,",           "-n,", "--pg",      "-d,",       "--image",   "--ttft", "--e2e",
        "-r,",     "-t,",         "-b,",           "-o,", "--kv-type", "--profile", "--trace",   "jsonl",  "sql",
        "--force", "--no-warmup", "--no-roofline", "-pg", "-ctk",      "-np",       "--parallel"}},
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

TEST(Usage, VersionSaysWhatTheProgramIs) {
  const RunResult result = run_glimpse({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, testing::MatchesRegex("glimpse [0-9]+\\.[0-9]+\\.[0-9]+\n"
                                                "build: (GCC|Clang) [^\n]+, (threads of its own|OpenMP)\n"
                                                "instruction sets: this CPU has ref[^\n]*; in use: [a-z0-9]+\n"
                                                "backends: cpu[^\n]+\n"
                                                "pictures: JPEG PNG BMP PPM[^\n]*\n"));
  RunSetup forced;
  forced.environment = {"GLIMPSE_FORCE_ISA=ref"};
  EXPECT_THAT(run_glimpse({"--version"}, forced).out, HasSubstr("in use: ref\n"));
  forced.environment = {"GLIMPSE_FORCE_ISA=avx3"};
  EXPECT_THAT(run_glimpse({"--version"}, forced).out, HasSubstr("avx3"));
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
      {"run", "-m", model, "-p", "hello", "--draft-tokens", "4"},
      {"run", "-m", model, "-p", "hello", "-md", model, "--draft-tokens", "16"},
      {"run", "-m", model, "-p", "hello", "-md", model, "--draft-min-p", "1.5"},
      {"run", "-m", model, "-p", "hello", "--vision-precision", "int2"},
      {"run", "-m", model, "-p", "hello", "--device", "tpu"},
      {"run", "-m", model, "-p", "hello", "--gpu-layers", "12"},
      {"run", "-m", model, "-p", "hello", "--cuda-decode", "fast"},
      {"run", "-m", model, "-p", "hello", "--cuda-decode"},
      {"run", "-m", model, "one question", "and another"},
      {"chat"},
      {"chat", "-m", model, "a question"},
      {"batch", "-m", model, "-p", "x"},
      {"batch", "-m", model, "-p", "x", "x.png", "--parallel", "0"},
      {"batch", "-m", model, "-p", "x", "x.png", "--input-format", "xml"},
      {"batch", "-m", model, "-p", "x", "x.png", "--output-format", "xml"},
      {"batch", "-m", model, "-p", "x", "x.png", "-o", "y", "--resume", "--force"},
      {"load"},
      {"load", "http://x", "--concurrency", "0"},
      {"load", "http://x", "-o", "xml"},
      {"serve"},
      {"serve", "-m", model, "--port", "70000"},
      {"serve", "-m", model, "--parallel", "0"},
      {"serve", "-m", model, "a question"},
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
  const std::vector<std::string> commands[] = {{"run", "-p", "x"},
                                               {"chat"},
                                               {"batch", "-p", "x", "x.png"},
                                               {"eval"},
                                               {"bench"},
                                               {"diff", "-p", "x", "--against", "ref"},
                                               {"perplexity", "-f", "x"}};
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
       {std::vector<std::string>{"inspect", golden("tied/model.gguf")}, std::vector<std::string>{"--help"},
        std::vector<std::string>{"run", "--help"}, std::vector<std::string>{"help", "bench"},
        std::vector<std::string>{"--version"}, std::vector<std::string>{"completion", "bash"},
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
