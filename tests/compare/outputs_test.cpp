// What the programs of both engines print.
#include "tools/compare/outputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

namespace glimpse::compare {
namespace {

using ::testing::HasSubstr;

std::string data(const char* name) {
  std::ifstream in(std::string(GLIMPSE_TEST_DIR "/compare/data/") + name);
  EXPECT_TRUE(in) << name;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}
std::string without(std::string text, const char* line) {
  const size_t at = text.find(line);
  EXPECT_NE(at, std::string::npos) << line;
  text.erase(at, text.find('\n', at) - at);
  return text;
}

TEST(Outputs, MtmdStagesAreReadAndEncodingIsTakenOutOfThePrompt) {
  const auto run = parse_mtmd(data("mtmd.log"), "\n a cat\n on a mat\n\n");
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->image_encode, 2079);
  EXPECT_EQ(run->first_token, 4464.83);
  EXPECT_NEAR(run->prefill, 4464.83 - 2079, 1e-9);
  EXPECT_EQ(run->decode, 4276.31);
  EXPECT_EQ(run->n_prompt, 79);
  EXPECT_EQ(run->n_image, 54);
  EXPECT_EQ(run->n_decode, 15);
  EXPECT_EQ(run->answer, " a cat\n on a mat");
}

TEST(Outputs, OlderMtmdLinesAreKnown) {
  const auto run = parse_mtmd(
      "image slice encoded in 500 ms\nimage slice encoded in 250 ms\n"
      "prompt eval time =     100.00 ms /    20 tokens (\n       eval time =      50.00 ms /     5 runs   (\n",
      "");
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->image_encode, 750);
  EXPECT_EQ(run->prefill, 100);  // shorter than encoding: it cannot be inside
  EXPECT_EQ(run->first_token, 850);
}

TEST(Outputs, MtmdWithoutItsLinesIsRefusedByName) {
  for (const char* line : {"mtmd batch encoding done in", "prompt eval time", "       eval time"}) {
    const auto run = parse_mtmd(without(data("mtmd.log"), line), "");
    ASSERT_FALSE(run.ok()) << line;
    EXPECT_THAT(run.error().message, HasSubstr("too old"));
  }
  EXPECT_FALSE(parse_mtmd("", "").ok());
  EXPECT_FALSE(parse_mtmd(std::string(100000, 'x'), "").ok());
}

TEST(Outputs, LlamaBenchRowsAreRead) {
  const auto rows = parse_bench(data("llama_bench.json"));
  ASSERT_TRUE(rows.ok()) << rows.error().message;
  ASSERT_EQ(rows->size(), 4u);
  EXPECT_EQ(rows.value()[0].n_prompt, 16);
  EXPECT_EQ(rows.value()[0].n_gen, 0);
  EXPECT_EQ(rows.value()[3].n_gen, 8);
  EXPECT_EQ(rows.value()[3].n_depth, 64);
  EXPECT_EQ(rows.value()[0].commit, "0c1e57098");
  for (const BenchRow& row : rows.value()) EXPECT_GT(row.tokens_per_second, 0);
}

TEST(Outputs, OtherTextIsNoBench) {
  for (const char* text : {"", "{}", "[1]", "[{\"n_prompt\": 5}]", "[{\"avg_ts\": \"fast\"}]", "[{\"avg_ts\": 5}"}) {
    EXPECT_FALSE(parse_bench(text).ok()) << text;
  }
}

TEST(Outputs, GlimpseRunIsRead) {
  const auto run = parse_glimpse_run(
      R"({"answer": "a cat", "timings": {"load_ms": 5, "image_decode_ms": 1, "image_resize_ms": 2, "image_encode_ms": 40,
          "image_tokens": 54, "prefill_ms": 10, "prompt_tokens": 79, "decode_ms": 20, "generated_tokens": 16}})");
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->image_prepare, 3);
  EXPECT_EQ(run->first_token, 53);
  EXPECT_EQ(run->n_decode, 15);
  EXPECT_EQ(run->answer, "a cat");
  for (const char* text : {"", "[]", "{}", "{\"answer\": 1, \"timings\": {}}", "{\"answer\": \"x\", \"timings\": 3}"}) {
    EXPECT_FALSE(parse_glimpse_run(text).ok()) << text;
  }
}

}  // namespace
}  // namespace glimpse::compare
