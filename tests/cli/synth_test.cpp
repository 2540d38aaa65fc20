// glimpse synth: whole files or none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> synth(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"synth", "--preset", "tiny"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// What inspect says of a file, which has no warnings.
json inspect(const std::string& file, bool with_data = false) {
  std::vector<std::string> arguments = {"inspect", file, "--json"};
  if (with_data) arguments.push_back("--check-data");
  const json found = json_of(run_glimpse(arguments));
  for (const json& finding : found.at("findings")) EXPECT_NE(finding.at("level"), "warning") << file << ": " << finding;
  return found;
}

void expect_clean_and_answering(const std::string& model, const std::string& mmproj) {
  inspect(model, true);
  inspect(mmproj, true);
  const json answer = json_of(run_glimpse({"run", "-m", model, "--mmproj", mmproj, "--image", kPicture, "-n", "3", "-c",
                                           "256", "--image-max-tokens", "16", "--json", "what is this?"}));
  EXPECT_GE(answer.at("tokens").size(), 1u);
}

TEST(Synth, FilesDoNotDependOnTheThreads) {
  const ScratchDir dir;
  for (const char* threads : {"1", "3"}) {
    const RunResult result = run_glimpse(synth({"-t", threads, "-m", dir.file(std::string("model-") + threads),
                                                "--mmproj", dir.file(std::string("mmproj-") + threads)}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_THAT(dir.list(), ElementsAre("mmproj-1", "mmproj-3", "model-1", "model-3"));
  EXPECT_EQ(read_all(dir.file("model-1")), read_all(dir.file("model-3")));
  EXPECT_EQ(read_all(dir.file("mmproj-1")), read_all(dir.file("mmproj-3")));
}

// It wrote a vocabulary with the same token twice, or none at all, and `run` refused the file.
TEST(Synth, ACopiedVocabularyAnswersWhateverThePreset) {
  const ScratchDir dir;
  const std::string vocab = golden("tied/model.gguf"), model = dir.file("copy.gguf");
  for (const char* preset : {"tiny", "qwen2-vl-2b"}) {
    const RunResult made = run_glimpse(
        {"synth", "--preset",   preset, "--hidden-size", "256", "--layers", "2",   "--heads", "4",  "--kv-heads",
         "2",     "--head-dim", "64",   "--ffn",         "512", "--vocab",  vocab, "--force", "-m", model});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    const json found = inspect(model);
    EXPECT_EQ(found.at("tensors").at(0).at("dims").at(1), 320) << preset;  // as many as there are
    const RunResult answer = run_glimpse({"run", "-m", model, "-n", "2", "the cat"});
    EXPECT_EQ(answer.exit_code, 0) << preset << ": " << answer.err;
  }
  // An explicit size pads, and no token is named twice.
  const RunResult padded =
      run_glimpse({"synth", "--preset", "tiny", "--vocab", vocab, "--vocab-size", "151936", "--force", "-m", model});
  ASSERT_EQ(padded.exit_code, 0) << padded.err;
  EXPECT_EQ(run_glimpse({"run", "-m", model, "-n", "2", "the cat"}).exit_code, 0);
}

TEST(Synth, FilesAreCleanAndAnswer) {
  const ScratchDir dir;
  for (const char* type : {"Q4_K_M", "Q8_0", "F16"}) {
    const std::string model = dir.file(std::string(type) + ".gguf"), mmproj = dir.file(std::string(type) + "-v.gguf");
    const RunResult made = run_glimpse(synth({"--type", type, "-m", model, "--mmproj", mmproj}));
    ASSERT_EQ(made.exit_code, 0) << type << ": " << made.err;
    SCOPED_TRACE(type);
    expect_clean_and_answering(model, mmproj);
  }
}

TEST(Synth, EveryFamilyAnswers) {
  const ScratchDir dir;
  const std::string vocab = golden("tied/model.gguf");
  for (const char* preset : {"qwen2-vl-2b", "qwen2.5-vl-3b", "qwen3-vl-2b", "qwen3-vl-30b-a3b"}) {
    std::vector<std::string> arguments = {
        "synth",    "--preset",       preset,   "--hidden-size",  "256", "--layers",
        "2",        "--heads",        "4",      "--kv-heads",     "2",   "--head-dim",
        "64",       "--ffn",          "64",     "--vocab",        vocab, "--vision-embed-dim",
        "128",      "--vision-depth", "3",      "--vision-heads", "4",   "--vision-ffn",
        "90",       "--type",         "Q4_K_M", "--force",        "-m",  dir.file("m"),
        "--mmproj", dir.file("v")};
    const bool experts = std::string(preset).ends_with("a3b");
    if (experts) arguments.insert(arguments.end(), {"--experts", "16", "--experts-used", "4"});
    const RunResult made = run_glimpse(arguments);
    ASSERT_EQ(made.exit_code, 0) << preset << ": " << made.err;
    SCOPED_TRACE(preset);
    expect_clean_and_answering(dir.file("m"), dir.file("v"));
    if (!experts) continue;
    const json metadata = inspect(dir.file("m")).at("metadata");
    EXPECT_EQ(metadata.at("qwen3vlmoe.expert_count"), 16);
    EXPECT_EQ(metadata.at("qwen3vlmoe.expert_used_count"), 4);
  }
}

TEST(Synth, CopiesTheSizesOfExistingFiles) {
  const ScratchDir dir;
  // The copy of what synth itself wrote is the same file; sizes given beside it win.
  ASSERT_EQ(run_glimpse(synth({"-m", dir.file("m"), "--mmproj", dir.file("v"), "--type", "Q8_0", "--mmproj-type",
                               "BF16", "--layers", "3", "--untied", "--vision-depth", "3", "--kv-heads", "1"}))
                .exit_code,
            0);
  RunResult result = run_glimpse({"synth", "--like", dir.file("m"), "--mmproj-like", dir.file("v"), "-m",
                                  dir.file("m2"), "--mmproj", dir.file("v2")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(read_all(dir.file("m2")), read_all(dir.file("m")));
  EXPECT_EQ(read_all(dir.file("v2")), read_all(dir.file("v")));
  result = run_glimpse({"synth", "--like", dir.file("m"), "--type", "Q4_0", "--layers", "1", "-m", dir.file("m3")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json small = inspect(dir.file("m3"));
  EXPECT_EQ(small.at("metadata").at("qwen2vl.block_count"), 1);
  EXPECT_EQ(small.at("metadata").at("qwen2vl.attention.head_count_kv"), 1);
  // A real model's tokenizer comes along.
  result = run_glimpse({"synth", "--like", golden("tied/model.gguf"), "-m", dir.file("m4")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(run_glimpse({"run", "-m", dir.file("m4"), "-n", "2", "hello"}).exit_code, 0);
}

TEST(Synth, RefusesToOverwrite) {
  const ScratchDir dir;
  const std::string kept = dir.write("kept.gguf", "something precious");
  RunResult result = run_glimpse(synth({"-m", kept}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("exists already"));
  EXPECT_EQ(read_all(kept), "something precious");

  // Also when the second of two files is there, and before the first is written.
  result = run_glimpse(synth({"-m", dir.file("new.gguf"), "--mmproj", kept}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("exists already"));
  EXPECT_THAT(dir.list(), ElementsAre("kept.gguf"));

  result = run_glimpse(synth({"-m", kept, "--force"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(read_all(kept).substr(0, 4), "GGUF");
}

TEST(Synth, BadSettingsWriteNothing) {
  const ScratchDir dir;
  const std::pair<std::vector<std::string>, const char*> bad[] = {
      {{"synth"}, "nothing to write"},
      {{"synth", "--preset", "huge", "-m", dir.file("a")}, "tiny"},
      {synth({"-m", dir.file("a"), "--type", "Q9_Z"}), "Q9_Z"},
      {synth({"-m", dir.file("a"), "--mmproj", dir.file("b"), "--mmproj-type", "Q9_Z"}), "Q9_Z"},
      {synth({"-m", dir.file("a"), "--mmproj", dir.file("a")}), "both"},
      {synth({"-m", dir.file("a"), "--heads", "5"}), "5 attention heads"},
      {synth({"-m", dir.file("a"), "--layers", "-1"}), "num_hidden_layers"},
      {synth({"-m", dir.file("a"), "--experts", "4"}), "without experts"},
      {{"synth", "--preset", "qwen3-vl-30b-a3b", "--experts", "4", "-m", dir.file("a")}, "8 of 4 experts"},
      {{"synth", "--preset", "qwen3-vl-30b-a3b", "--experts-used", "-1", "-m", dir.file("a")}, "-1 of 128 experts"},
      {{"synth", "--preset", "qwen3-vl-30b-a3b", "--experts", "-4", "--layers", "1", "-m", dir.file("a")},
       "8 of -4 experts"},
      {{"synth", "--preset", "qwen3-vl-30b-a3b", "--ffn", "16777217", "-m", dir.file("a")}, "moe_intermediate_size"},
      {synth({"--mmproj", dir.file("a"), "--vision-heads", "7"}), "heads"},
      {synth({"-m", dir.file("no/such/dir/a")}), "no/such/dir"},
      {synth({"-m", dir.path()}), "glimpse-test-"},
      {synth({"-m", dir.file("a"), "--vocab", dir.file("missing.gguf")}), "missing.gguf"},
      {synth({"-m", dir.file("a"), "--vocab", golden("tied/mmproj.gguf")}), "mmproj.gguf"},
      {synth({"-m", dir.file("a"), "--like", dir.file("missing.gguf")}), "missing.gguf"},
      {synth({"-m", dir.file("a"), "--like", golden("tied/mmproj.gguf")}), "clip"},
      {synth({"--mmproj", dir.file("a"), "--mmproj-like", golden("tied/model.gguf")}), "text model"},
  };
  for (const auto& [arguments, word] : bad) {
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 1) << testing::PrintToString(arguments) << result.err;
    EXPECT_THAT(result.err, HasSubstr("glimpse: ")) << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, HasSubstr(word)) << testing::PrintToString(arguments);
    EXPECT_EQ(result.out, "");
  }
  EXPECT_THAT(dir.list(), IsEmpty());
}

// 400 MB of weights: long enough to be interrupted half way.
std::vector<std::string> large(const std::string& path) {
  return synth({"-t", "1", "-m", path, "--type", "Q4_K_M", "--vocab-size", "152064", "--hidden-size", "4096",
                "--head-dim", "128", "--heads", "32", "--kv-heads", "8", "--ffn", "8192"});
}

TEST(Synth, SignalsLeaveNothingBehind) {
  expect_signals_leave_nothing(large, 4 << 20, 200 << 20);
}

TEST(Synth, ADiskThatFillsLeavesNothingBehind) {
  expect_a_full_disk_leaves_nothing(large);
}

}  // namespace
}  // namespace glimpse::cli_test
