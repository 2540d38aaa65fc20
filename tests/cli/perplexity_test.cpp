// glimpse perplexity: figures, base files, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

const std::string kText = GLIMPSE_TEST_DIR "/eval/data/text.txt";
const std::string kLlamaBase = GLIMPSE_TEST_DIR "/eval/data/llama_base.kld";

RunResult perplexity(std::vector<std::string> more, const char* model = "tied/model.gguf", const RunSetup& setup = {}) {
  std::vector<std::string> arguments = {"perplexity", "-m", golden(model), "-t", "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_glimpse(arguments, setup);
}
double value(const json& j, const char* name) {
  return j.at(name).at("value").get<double>();
}
void expect_refused(const RunResult& result, int exit_code, const char* word) {
  EXPECT_EQ(result.exit_code, exit_code) << word << ": " << result.err;
  EXPECT_EQ(result.out, "") << word;
  EXPECT_THAT(result.err, HasSubstr(word));
}
// Two prompts, one with a picture, in the folder.
std::string prompts(const ScratchDir& dir, const std::string& answer = "a cat on a mat") {
  const json lines[] = {{{"image", kPicture}, {"prompt", "what is it"}, {"answer", answer}},
                        {{"prompt", "and now"}, {"answer", "12 birds"}}};
  return dir.write("prompts.jsonl", lines[0].dump() + "\n" + lines[1].dump() + "\n");
}
std::vector<std::string> with_pictures(const std::string& file, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"--mmproj", golden("tied/mmproj.gguf"), "--image-max-tokens", "16", "--prompts",
                                        file};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Perplexity, TextAndJsonSayTheSame) {
  const json j = json_of(perplexity({"-f", kText, "-c", "16", "--chunks", "2", "--kv-type", "f32", "--json"}));
  EXPECT_EQ(j.at("tokens"), 14);
  EXPECT_NEAR(value(j, "perplexity") / 65092.3431, 1, 1e-4);  // what llama-perplexity prints for these chunks
  EXPECT_EQ(j.count("kld"), 0u);
  const RunResult text = perplexity({"-f", kText, "-c", "16", "--chunks", "2", "--kv-type", "f32"});
  EXPECT_EQ(text.err, "");
  EXPECT_THAT(text.out, HasSubstr("14 tokens scored on"));
  char printed[40];
  std::snprintf(printed, sizeof printed, "%.6f", value(j, "perplexity"));
  EXPECT_THAT(text.out, HasSubstr(printed));
}

TEST(Perplexity, EveryTypeOfCacheDivergesAsItRounds) {
  const ScratchDir dir;
  const std::string base = dir.file("base.gguf");
  json_of(
      perplexity({"-f", kText, "-c", "64", "--kl-base", base, "--save-base", "--exact", "--kv-type", "f32", "--json"}));
  const auto kld = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--kl-base", base, "--kl-divergence", "--json"});
    return value(json_of(perplexity(more)), "kld");
  };
  const double f16 = kld({"--kv-type", "f16"});
  EXPECT_EQ(kld({}), f16);
  EXPECT_EQ(kld({"--precision", "f32"}), kld({"--kv-type", "f32", "--precision", "f32"}));
  EXPECT_GT(f16, 0);                                // these are other bits
  EXPECT_GT(kld({"--kv-type", "bf16"}), 10 * f16);  // a step of eight times the size: in theory 64 times
  EXPECT_GT(kld({"--kv-type", "q8_0"}), 10 * f16);
}

TEST(Perplexity, AModelAgainstItselfDivergesByRoundingOnly) {
  const ScratchDir dir;
  const std::string base = dir.file("base.kld");
  json_of(perplexity({"-f", kText, "-c", "24", "--kl-base", base, "--save-base", "--json"}, "quantized/model.gguf"));
  const json j = json_of(perplexity({"--kl-base", base, "--kl-divergence", "--json"}, "quantized/model.gguf"));
  EXPECT_LT(std::fabs(value(j, "kld")), 1.3e-4);  // half a step of the 16-bit format
  EXPECT_EQ(value(j, "same_top"), 1);
  // Floats tell less than nothing apart: the log-probabilities are those that were stored.
  json_of(perplexity({"-f", kText, "-c", "24", "--kl-base", base, "--save-base", "--exact", "--force", "--json"},
                     "quantized/model.gguf"));
  const json exact = json_of(perplexity({"--kl-base", base, "--kl-divergence", "--json"}, "quantized/model.gguf"));
  EXPECT_LT(std::fabs(value(exact, "kld")), 1e-6);
  for (const json& p : exact.at("kld_percentiles")) EXPECT_LT(std::fabs(p.at("value").get<double>()), 1e-6) << p;
}

TEST(Perplexity, DivergenceFromFloatsShowsWhatQuantisedActivationsCost) {
  const ScratchDir dir;
  const std::string base = dir.file("base.gguf");
  json_of(
      perplexity({"-f", kText, "-c", "24", "--precision", "f32", "--kl-base", base, "--save-base", "--exact", "--json"},
                 "quantized/model.gguf"));
  const auto kld = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--kl-base", base, "--kl-divergence", "--json"});
    return value(json_of(perplexity(more, "quantized/model.gguf")), "kld");
  };
  const double stored = kld({}), some = kld({"--f32-weights", "ffn_down,ffn_up,ffn_gate"}),
               f32 = kld({"--precision", "f32"});
  EXPECT_GT(stored, some);
  EXPECT_GT(some, 1e-7);
  EXPECT_LT(std::fabs(f32), 1e-7);
  // Double accumulation on the same weights agrees with the float kernels.
  EXPECT_LT(std::fabs(kld({"--reference"})), 1e-6);
}

TEST(Perplexity, ReadsABaseOfLlamaPerplexity) {
  const json j =
      json_of(perplexity({"--kl-divergence-base", kLlamaBase, "--kl-divergence", "--kv-type", "f32", "--json"}));
  EXPECT_EQ(j.at("tokens"), 14);
  EXPECT_LT(std::fabs(value(j, "kld")), 1.3e-4);
  EXPECT_EQ(value(j, "same_top"), 1);
  EXPECT_EQ(json_of(perplexity({"--kl-base", kLlamaBase, "--kl-divergence", "--chunks", "1", "--json"})).at("tokens"),
            7);
}

TEST(Perplexity, PromptsWithPicturesAreComparedOverTheirAnswers) {
  const ScratchDir dir;
  const std::string file = prompts(dir), base = dir.file("base.gguf");
  const json saved =
      json_of(perplexity(with_pictures(file, {"--precision", "f32", "--kl-base", base, "--save-base", "--json"})));
  const json self =
      json_of(perplexity(with_pictures(file, {"--precision", "f32", "--kl-base", base, "--kl-divergence", "--json"})));
  EXPECT_EQ(saved.at("tokens"), self.at("tokens"));
  EXPECT_LT(std::fabs(value(self, "kld")), 1e-6);
  const json engine = json_of(perplexity(with_pictures(file, {"--kl-base", base, "--kl-divergence", "--json"})));
  EXPECT_GT(value(engine, "kld"), -1e-6);
  EXPECT_NEAR(value(engine, "base_perplexity") / value(saved, "perplexity"), 1, 1e-5);
  // Another answer, another picture, other prompts, none.
  expect_refused(perplexity(with_pictures(prompts(dir, "a dog"), {"--kl-base", base, "--kl-divergence"})), 1,
                 "other tokens in prompt 1");
  prompts(dir);
  auto larger = with_pictures(file, {"--kl-base", base, "--kl-divergence"});
  larger[3] = "4";
  expect_refused(perplexity(larger), 1, "other tokens in prompt 1");
  dir.write("one.jsonl", "{\"prompt\": \"and now\", \"answer\": \"12 birds\"}");
  expect_refused(perplexity(with_pictures(dir.file("one.jsonl"), {"--kl-base", base, "--kl-divergence"})), 1,
                 "holds 2 sequences");
  expect_refused(perplexity({"--kl-base", base, "--kl-divergence"}), 1, "--prompts");
  expect_refused(perplexity({"--prompts", file}), 1, "--mmproj");
}

TEST(Perplexity, WrongFlagsExitWithTwo) {
  const std::vector<std::string> wrong[] = {
      {},
      {"-f"},
      {"-f", kText, "--prompts", kText},
      {"-f", kText, "--kl-base", "x"},
      {"-f", kText, "--save-base"},
      {"--kl-divergence"},
      {"-f", kText, "--kl-base", "x", "--kl-divergence"},
      {"-f", kText, "--kl-base", "x", "--kl-divergence", "--save-base"},
      {"-f", kText, "--exact"},
      {"-f", kText, "--force"},
      {"-f", kText, "-c", "3"},
      {"-f", kText, "--chunks", "-1"},
      {"-f", kText, "--precision", "f64"},
      {"-f", kText, "--kv-type", "q8"},
  };
  for (const auto& arguments : wrong) {
    const RunResult result = perplexity(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments) << result.err;
    EXPECT_NE(result.err, "") << testing::PrintToString(arguments);
  }
}

TEST(Perplexity, WrongFilesAreNamed) {
  const ScratchDir dir;
  expect_refused(perplexity({"-f", dir.file("gone.txt")}), 1, "gone.txt");
  expect_refused(perplexity({"-f", dir.write("short.txt", "few words"), "-c", "64"}), 1, "short.txt");
  expect_refused(perplexity({"-f", dir.write("bad.txt", "\xff\xfe")}), 1, "UTF-8");
  expect_refused(perplexity({"--prompts", dir.write("bad.jsonl", "{}")}), 1, "bad.jsonl: line 1");
  expect_refused(perplexity({"--kl-base", dir.file("gone.kld"), "--kl-divergence"}), 1, "gone.kld");
  expect_refused(perplexity({"--kl-base", kText, "--kl-divergence"}), 1, "_logits_");
  expect_refused(perplexity({"--kl-base", golden("tied/model.gguf"), "--kl-divergence"}), 1, "qwen2vl");
  const std::string good = read_all(kLlamaBase);
  expect_refused(perplexity({"--kl-base", dir.write("cut.kld", good.substr(0, 5000)), "--kl-divergence"}), 1,
                 "announced");
  std::string other = good;
  other[12] = static_cast<char>(319 & 0xff);  // rows of 319 are as long as those of 320
  expect_refused(perplexity({"--kl-base", dir.write("other.kld", other), "--kl-divergence"}), 1, "vocabulary of 319");
}

TEST(Perplexity, ABaseIsNotOverwrittenAndNotLeftHalf) {
  const ScratchDir dir;
  const std::string base = dir.write("base.kld", "precious");
  expect_refused(perplexity({"-f", kText, "-c", "16", "--kl-base", base, "--save-base"}), 1, "exists already");
  EXPECT_EQ(read_all(base), "precious");
  EXPECT_EQ(perplexity({"-f", kText, "-c", "16", "--kl-base", base, "--save-base", "--force"}).exit_code, 0);
  EXPECT_NE(read_all(base), "precious");
  for (const bool exact : {false, true}) {
    RunSetup setup;
    setup.file_size_limit = 4096;
    std::vector<std::string> arguments = {"-f", kText, "-c", "16", "--kl-base", dir.file("half.kld"), "--save-base"};
    if (exact) arguments.push_back("--exact");
    expect_refused(perplexity(arguments, "tied/model.gguf", setup), 1, "half.kld");
  }
  EXPECT_EQ(dir.list(), std::vector<std::string>{"base.kld"});
}

}  // namespace
}  // namespace glimpse::cli_test
