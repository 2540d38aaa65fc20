// glimpse diff: activations against the oracle, against transformers, against another run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_writer.h"
#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

RunResult diff(std::vector<std::string> more, const std::string& model = golden("tied/model.gguf"),
               const RunSetup& setup = {}) {
  std::vector<std::string> arguments = {"diff", "-m", model, "-t", "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_glimpse(arguments, setup);
}
void expect_refused(const RunResult& result, int exit_code, const char* word) {
  EXPECT_EQ(result.exit_code, exit_code) << word << ": " << result.err;
  EXPECT_EQ(result.out, "") << word;
  EXPECT_THAT(result.err, HasSubstr(word));
}
GgufFile open(const std::string& path) {
  Result<GgufFile> file = GgufFile::open(path);
  EXPECT_TRUE(file.ok());
  return std::move(file).value();
}
// The golden model with one weight of a tensor changed.
std::string damaged(const ScratchDir& dir, const char* tensor) {
  std::string bytes = read_all(golden("tied/model.gguf"));
  const float wrong = 3;
  std::memcpy(bytes.data() + open(golden("tied/model.gguf")).find_tensor(tensor)->file_offset, &wrong, sizeof wrong);
  return dir.write("damaged.gguf", bytes);
}

TEST(Diff, ARunAgainstItselfIsAllZero) {
  const ScratchDir dir;
  const std::string dump = dir.file("a.gguf");
  EXPECT_EQ(diff({"-p", "the cat", "--dump", dump}).exit_code, 0);
  const json j = json_of(diff({"-p", "the cat", "--against", dump, "--budget", "0", "--json"}), 0);
  EXPECT_EQ(j.at("activations").size(), 1u + 2 * 7 + 1);
  for (const json& row : j.at("activations")) {
    EXPECT_EQ(row.at("nmse"), 0) << row;
    EXPECT_EQ(row.at("max_abs"), 0) << row;
    EXPECT_EQ(row.at("cosine"), 1) << row;
    EXPECT_EQ(row.at("outside"), false) << row;
  }
  EXPECT_TRUE(j.at("first_outside").is_null());
  EXPECT_TRUE(j.at("missing").empty());
  const RunResult text = diff({"-p", "the cat", "--against", dump});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.out, HasSubstr("16 activations compared, all inside the budget"));
}

TEST(Diff, EveryBackendIsInsideItsBudgetAgainstTheOracle) {
  for (const char* model : {"tied/model.gguf", "untied/model.gguf", "quantized/model.gguf"}) {
    const json j = json_of(diff({"-p", "the cat sat on a mat", "--against", "ref", "--json"}, golden(model)), 0);
    EXPECT_EQ(j.at("against"), "the oracle");
    EXPECT_GT(j.at("activations").back().at("nmse"), 0) << model;
    const json f32 =
        json_of(diff({"-p", "the cat", "--against", "ref", "--precision", "f32", "--json"}, golden(model)), 0);
    for (const json& row : f32.at("activations")) EXPECT_LT(row.at("nmse"), 1e-9) << model << row;
  }
}

TEST(Diff, EveryTypeOfCacheIsInsideItsBudgetAgainstTheOracle) {
  std::map<std::string, double> nmse;
  for (const char* type : {"f32", "f16", "bf16", "q8_0"}) {
    const json j = json_of(diff({"-p", "the cat sat on a mat", "--against", "ref", "--kv-type", type, "--json"}), 0);
    nmse[type] = j.at("activations").back().at("nmse");
  }
  EXPECT_GT(nmse["f16"], nmse["f32"]);
  EXPECT_GT(nmse["bf16"], 10 * nmse["f16"]);
  EXPECT_GT(nmse["q8_0"], 10 * nmse["f16"]);
  const json usual = json_of(diff({"-p", "the cat sat on a mat", "--against", "ref", "--json"}), 0);
  EXPECT_EQ(usual.at("activations").back().at("nmse"), nmse["f16"]);
}

TEST(Diff, FloatWeightsAreAReferenceToo) {
  const json j = json_of(diff({"-p", "the cat", "--against", "f32", "--json"}, golden("quantized/model.gguf")), 0);
  EXPECT_EQ(j.at("activations")[0].at("nmse"), 0);  // embeddings are dequantised in both
  EXPECT_GT(j.at("activations").back().at("nmse"), 1e-6);
}

TEST(Diff, RoutersAreComparedByWhatTheyChoose) {
  const ScratchDir dir;
  const std::string model = golden("qwen3moe-f16/model.gguf"), dump = dir.file("a.gguf");
  EXPECT_EQ(diff({"-p", "the cat", "--dump", dump}, model).exit_code, 0);
  const json same = json_of(diff({"-p", "the cat", "--against", dump, "--budget", "0", "--json"}, model), 0);
  EXPECT_EQ(same.at("not_in_reference"), 0);  // scores and weights of experts were written and read
  int n_routers = 0;
  for (const json& row : same.at("activations")) {
    if (!row.at("name").get<std::string>().ends_with(".router")) continue;
    EXPECT_EQ(row.at("rerouted_rows"), 0);
    ++n_routers;
  }
  EXPECT_GT(n_routers, 1);

  // The first router's scores change sides: its rows take those that were the worst.
  std::string bytes = read_all(dump);
  const GgufTensor scores = *open(dump).find_tensor("blk.0.router");
  for (uint64_t i = 0; i < scores.n_elements(); ++i) bytes[scores.file_offset + 4 * i + 3] ^= '\x80';
  const RunResult other = diff({"-p", "the cat", "--against", dir.write("b.gguf", bytes)}, model);
  EXPECT_EQ(other.exit_code, 1);
  const std::string n = std::to_string(scores.dims[1]);
  EXPECT_THAT(other.out, HasSubstr("blk.0.router: " + n + " of " + n + " rows go through other experts"));
}

TEST(Diff, PicturesAreComparedWithTransformers) {
  const ScratchDir dir;
  const GgufFile file = open(golden("tied/case-images.gguf"));
  std::vector<std::string> arguments = {"--mmproj",
                                        golden("tied/mmproj.gguf"),
                                        "--raw",
                                        "-p",
                                        "a <image> and<image>.",
                                        "--vision-precision",
                                        "f32",
                                        "--kv-type",
                                        "f32",
                                        "--json",
                                        "--against",
                                        golden("tied/case-images.gguf")};
  for (const char* name : {"pixels/0", "pixels/1"}) {
    const GgufTensor& tensor = *file.find_tensor(name);
    std::string pixels(tensor.n_bytes, '\0');
    ASSERT_TRUE(file.read(tensor, 0, std::as_writable_bytes(std::span(pixels))).ok());
    arguments.push_back("--image");
    arguments.push_back(
        dir.write(std::string(1, name[7]) + ".ppm",
                  "P6\n" + std::to_string(tensor.dims[1]) + " " + std::to_string(tensor.dims[2]) + "\n255\n" + pixels));
  }
  const json j = json_of(diff(arguments), 0);
  EXPECT_EQ(j.at("activations").size(), 12u);
  EXPECT_TRUE(j.at("missing").empty());
  for (const json& row : j.at("activations")) EXPECT_LT(row.at("nmse"), 1e-9) << row;
}

TEST(Diff, DamagedWeightIsNamedByItsLayer) {
  const ScratchDir dir;
  const std::string dump = dir.file("good.gguf");
  EXPECT_EQ(diff({"-p", "the cat", "--dump", dump}).exit_code, 0);
  const std::pair<const char*, const char*> cases[] = {
      {"token_embd.weight", "logits"},  // tied: the row of a token that the prompt has not
      {"blk.0.attn_q.weight", "blk.0.q"},   {"blk.0.attn_k.bias", "blk.0.k"},
      {"blk.1.attn_v.weight", "blk.1.v"},   {"blk.1.attn_output.weight", "blk.1.attn_out"},
      {"blk.0.ffn_up.weight", "blk.0.ffn"}, {"blk.1.ffn_down.weight", "blk.1.ffn_out"},
      {"output_norm.weight", "logits"}};
  for (const auto& [tensor, step] : cases) {
    const std::string model = damaged(dir, tensor);
    const json j = json_of(diff({"-p", "the cat", "--against", dump, "--json"}, model), 1);
    EXPECT_EQ(j.at("first_outside"), step) << tensor;
    for (const json& row : j.at("activations")) {  // nothing before it differs
      if (row.at("name") == step) break;
      EXPECT_EQ(row.at("nmse"), 0) << tensor << row;
    }
    const RunResult text = diff({"-p", "the cat", "--against", dump}, model);
    EXPECT_EQ(text.exit_code, 1);
    EXPECT_THAT(text.out, HasSubstr(std::string("first outside the budget: ") + step));
  }
}

TEST(Diff, MissingAndForeignActivationsAreNamed) {
  const ScratchDir dir;
  const std::string all = dir.file("all.gguf"), some = dir.file("some.gguf");
  EXPECT_EQ(diff({"-p", "the cat", "--dump", all}).exit_code, 0);
  EXPECT_EQ(diff({"-p", "the cat", "--only", "blk.1.", "--dump", some}).exit_code, 0);
  // The reference has fewer: said, no failure. It has more than the run was asked for: neither.
  EXPECT_EQ(json_of(diff({"-p", "the cat", "--against", some, "--json"}), 0).at("not_in_reference"), 9);
  EXPECT_TRUE(
      json_of(diff({"-p", "the cat", "--against", all, "--only", "blk.1.", "--json"}), 0).at("missing").empty());
  // The reference has an activation that the run does not make.
  std::string bytes = read_all(all);
  const size_t at = bytes.find("blk.1.ffn_out");
  bytes.replace(at, 13, "blk.9.ffn_out");
  const json j = json_of(diff({"-p", "the cat", "--against", dir.write("nine.gguf", bytes), "--json"}), 1);
  EXPECT_EQ(j.at("missing"), json({"blk.9.ffn_out"}));
  expect_refused(diff({"-p", "the cat", "--against", some, "--only", "blk.0."}), 1, "none of this run's");
  expect_refused(diff({"-p", "the cat", "--against", golden("tied/model.gguf")}), 1, "model.gguf");
  expect_refused(diff({"-p", "the cat", "--against", dir.file("gone.gguf")}), 1, "gone.gguf");
  expect_refused(diff({"-p", "the cat", "--against", dir.write("cut.gguf", read_all(all).substr(0, 3000))}), 1,
                 "cut.gguf");
}

TEST(Diff, BudgetCountsWhatIsNotShown) {
  const std::string model = golden("quantized/model.gguf");
  const json all = json_of(diff({"-p", "the cat", "--against", "f32", "--json"}, model), 0);
  const json one = json_of(diff({"-p", "the cat", "--against", "f32", "--only", "logits", "--json"}, model), 0);
  ASSERT_EQ(one.at("activations").size(), 1u);
  EXPECT_EQ(one["activations"][0], all["activations"].back());
}

TEST(Diff, OtherPromptsAndShapesAreRefused) {
  const ScratchDir dir;
  const std::string dump = dir.file("a.gguf");
  EXPECT_EQ(diff({"-p", "the cat", "--dump", dump}).exit_code, 0);
  expect_refused(diff({"-p", "the cats and dogs", "--against", dump}), 1, "embd: this run has");
  const std::string digits = dir.file("digits.gguf");
  EXPECT_EQ(diff({"-p", "12345", "--dump", digits}).exit_code, 0);
  expect_refused(diff({"-p", "12346", "--against", digits}), 1, "another prompt");
  expect_refused(diff({"-p", "the cat", "--against", dump}, golden("quantized/model.gguf")), 1, "this run has");
}

TEST(Diff, DumpsAreNotOverwrittenAndNotLeftHalf) {
  const ScratchDir dir;
  const std::string dump = dir.write("a.gguf", "precious");
  expect_refused(diff({"-p", "the cat", "--dump", dump}), 1, "exists already");
  EXPECT_EQ(read_all(dump), "precious");
  EXPECT_EQ(diff({"-p", "the cat", "--dump", dump, "--force"}).exit_code, 0);
  EXPECT_EQ(read_all(dump).substr(0, 4), "GGUF");
  RunSetup setup;
  setup.file_size_limit = 4096;
  expect_refused(diff({"-p", "the cat", "--dump", dir.file("half.gguf")}, golden("tied/model.gguf"), setup), 1,
                 "half.gguf");
  EXPECT_EQ(dir.list(), std::vector<std::string>{"a.gguf"});
}

TEST(Diff, WrongFlagsExitWithTwo) {
  const std::vector<std::string> wrong[] = {
      {},
      {"-p", "x"},
      {"--against", "ref"},
      {"-p", "x", "--against", "ref", "--budget", "-1"},
      {"-p", "x", "--against", "ref", "--budget", "small"},
      {"-p", "x", "--against", "ref", "--kv-type", "q8"},
      {"-p", "x", "--against", "ref", "--precision", "f64"},
  };
  for (const auto& arguments : wrong) EXPECT_EQ(diff(arguments).exit_code, 2) << testing::PrintToString(arguments);
  expect_refused(diff({"-p", "x", "--against", "ref", "--image", kPicture}), 1, "--mmproj");
  expect_refused(diff({"-p", "<image> or <image>", "--raw", "--against", "ref", "--mmproj", golden("tied/mmproj.gguf"),
                       "--image", kPicture}),
                 1, "<image>");
  expect_refused(diff({"-p", "", "--raw", "--against", "ref"}), 1, "no tokens");
}

}  // namespace
}  // namespace glimpse::cli_test
