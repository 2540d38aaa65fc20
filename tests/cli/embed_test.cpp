// glimpse embed and glimpse rerank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

RunResult embed(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"embed", "-m", golden("qwen3/model.gguf"), "-t", "1", "--pooling", "last"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_glimpse(arguments);
}

std::vector<json> lines_of(const RunResult& result) {
  EXPECT_EQ(result.exit_code, 0) << result.err;
  std::vector<json> rows;
  std::istringstream in(result.out);
  for (std::string line; std::getline(in, line);) rows.push_back(json::parse(line, nullptr, false));
  return rows;
}

TEST(Embed, WritesARowForEachText) {
  const std::vector<json> rows = lines_of(embed({"the cat", "what is 7?"}));
  ASSERT_EQ(rows.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(rows[i].at("index"), i);
    ASSERT_EQ(rows[i].at("embedding").size(), 48u);
    double length = 0;
    for (const double v : rows[i]["embedding"]) length += v * v;
    EXPECT_NEAR(length, 1, 1e-5);
  }
  EXPECT_NE(rows[0]["embedding"], rows[1]["embedding"]);
}

TEST(Embed, FilesLinesAndFormatsAgree) {
  const ScratchDir dir;
  const std::string lines = dir.write("lines.txt", "the cat\r\n\nwhat is 7?\n");
  const std::string jsonl = dir.write("rows.jsonl", "{\"id\": 7, \"text\": \"the cat\"}\n{\"text\": \"what is 7?\"}\n");
  const std::vector<json> rows = lines_of(embed({"the cat", "what is 7?"}));
  EXPECT_EQ(lines_of(embed({"-f", lines})), rows);
  const std::vector<json> named = lines_of(embed({"--jsonl", "-f", jsonl}));
  EXPECT_EQ(named.at(0).at("id"), "7");
  EXPECT_EQ(named[1], rows[1]);
  const RunResult bytes = embed({"the cat", "what is 7?", "--output-format", "bin", "-o", dir.file("v.bin")});
  EXPECT_EQ(bytes.exit_code, 0) << bytes.err;
  const std::string raw = read_all(dir.file("v.bin"));
  ASSERT_EQ(raw.size(), 2 * 48 * sizeof(float));
  const RunResult csv = embed({"the cat", "what is 7?", "--output-format", "csv"});
  std::istringstream in(csv.out);
  for (size_t row = 0; row < 2; ++row) {
    std::string line;
    std::getline(in, line);
    std::istringstream values(line);
    for (size_t i = 0; i < 48; ++i) {
      float value = 0;
      std::memcpy(&value, raw.data() + (row * 48 + i) * sizeof value, sizeof value);
      EXPECT_EQ(rows[row]["embedding"][i].get<float>(), value);
      std::string cell;
      std::getline(values, cell, ',');
      EXPECT_EQ(std::stof(cell), value);
    }
  }
  const std::vector<json> longer = lines_of(embed({"the cat", "--no-normalize"}));
  EXPECT_NE(longer.at(0)["embedding"], rows[0]["embedding"]);
}

TEST(Embed, RepeatedBlocksOfPicturesAreLeftOutOnRequest) {
  const ScratchDir dir;
  const std::string page = dir.write("page.ppm", "P6\n112 112\n255\n" + std::string(3 * 112 * 112, '\xff'));
  const auto vector_of = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"embed", "-m", golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "-t",
                               "1", "-c", "256", "--pooling", "last", "--image", page});
    return lines_of(run_glimpse(more)).at(0).at("embedding");
  };
  EXPECT_NE(vector_of({"--dedup-patches"}), vector_of({}));
}

TEST(Embed, SaysWhatIsMissing) {
  EXPECT_THAT(embed({}).err, HasSubstr("there is nothing to read"));
  const RunResult as_the_file_says = run_glimpse({"embed", "-m", golden("qwen3/model.gguf"), "x"});
  EXPECT_THAT(as_the_file_says.err, HasSubstr("the model's file has no pooling_type"));
  EXPECT_THAT(embed({"--image", "a.png"}).err, HasSubstr("--mmproj"));
  const ScratchDir dir;
  EXPECT_THAT(embed({"--jsonl", "-f", dir.write("bad.jsonl", "[1]\n")}).err, HasSubstr("line 1: want a JSON object"));
  const RunResult rank = run_glimpse({"rerank", "-m", golden("qwen3/model.gguf"), "-q", "cat", "the cat"});
  EXPECT_EQ(rank.exit_code, 1);
  EXPECT_THAT(rank.err, HasSubstr("neither a classifier nor tokens for yes and no"));
}

}  // namespace
}  // namespace glimpse::cli_test
