// glimpse inspect: text and JSON.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Inspect, ShowsKeysTensorsAndTypes) {
  const RunResult result = run_glimpse({"inspect", golden("tied/model.gguf")});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* text :
       {"GGUF version 3", "general.architecture", "\"qwen2vl\"", "qwen2vl.block_count", "token_embd.weight",
        "(64, 320)", "F32", "chat template: ChatML, no tools, no thinking, a default system text"}) {
    EXPECT_THAT(result.out, HasSubstr(text));
  }
  const RunResult brief = run_glimpse({"inspect", golden("tied/model.gguf"), "--no-tensors"});
  EXPECT_THAT(brief.out, Not(HasSubstr("token_embd.weight")));
}

TEST(Inspect, JsonHasTheDocumentedFields) {
  const RunResult result = run_glimpse({"inspect", golden("tied/model.gguf"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json file = json::parse(result.out, nullptr, false);
  ASSERT_TRUE(file.is_object());
  EXPECT_EQ(file.at("path"), golden("tied/model.gguf"));
  EXPECT_EQ(file.at("version"), 3);
  EXPECT_EQ(file.at("alignment"), 32);
  EXPECT_EQ(file.at("shards"), 1);
  EXPECT_EQ(file.at("bytes").get<size_t>(), read_all(golden("tied/model.gguf")).size());
  EXPECT_EQ(file.at("metadata").at("general.architecture"), "qwen2vl");
  EXPECT_EQ(file["metadata"].at("qwen2vl.rope.dimension_sections"), json({2, 3, 3, 0}));
  ASSERT_EQ(file.at("tensors").size(), 26u);
  const json& tensor = file["tensors"][0];
  EXPECT_EQ(tensor.at("name"), "token_embd.weight");
  EXPECT_EQ(tensor.at("dims"), json({64, 320}));
  EXPECT_EQ(tensor.at("bytes"), 4 * 64 * 320);
  for (const char* field : {"type", "offset", "shard"}) EXPECT_EQ(tensor.count(field), 1u) << field;
  EXPECT_TRUE(file.at("findings").is_array());
  EXPECT_EQ(file.at("chat_format"), "ChatML, no tools, no thinking, a default system text");
  const RunResult vision = run_glimpse({"inspect", golden("tied/mmproj.gguf"), "--no-tensors"});
  EXPECT_THAT(vision.out, Not(HasSubstr("chat template")));
}

TEST(Inspect, EveryGoldenFileIsClean) {
  for (const char* name :
       {"tied/model.gguf", "tied/mmproj.gguf", "untied/model.gguf", "untied/mmproj.gguf", "quantized/model.gguf"}) {
    const RunResult result = run_glimpse({"inspect", golden(name), "--check-data", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const json file = json::parse(result.out, nullptr, false);
    ASSERT_TRUE(file.is_object()) << result.out;
    for (const json& finding : file.at("findings")) {
      EXPECT_NE(finding.at("level"), "warning") << name << ": " << finding;
    }
  }
}

TEST(Inspect, HostileTextsStayTexts) {
  const ScratchDir dir;
  gguf_test::GgufBuilder builder;
  builder.text("general.architecture", "test").text("evil", "\x1b[2J\x07 bell \xff\xfe");
  builder.key("nan", GgufType::kFloat32, gguf_test::le(std::numeric_limits<float>::quiet_NaN()));
  builder.tensor("t\x1b[31m", {4}, DType::kF32, std::string(16, '\0'));
  const std::string path = dir.write("evil.gguf", builder.build());
  const RunResult text = run_glimpse({"inspect", path});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char byte : text.out) EXPECT_FALSE(byte == '\x1b' || byte == '\x07');
  const RunResult as_json = run_glimpse({"inspect", path, "--json"});
  EXPECT_EQ(as_json.exit_code, 0) << as_json.err;
  EXPECT_FALSE(json::parse(as_json.out, nullptr, false).is_discarded()) << as_json.out;
}

}  // namespace
}  // namespace glimpse::cli_test
