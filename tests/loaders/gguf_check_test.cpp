// What `glimpse inspect` has to say about files that parse.
#include "loaders/gguf/gguf_check.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/base/block_format.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;
using Level = GgufFinding::Level;

std::vector<GgufFinding> findings(const GgufBuilder& b) {
  const std::string bytes = b.build();
  const auto file = parse(bytes);
  EXPECT_TRUE(file.ok()) << file.error().message;
  return file.ok() ? check_gguf(file.value()) : std::vector<GgufFinding>{};
}

testing::AssertionResult has(const std::vector<GgufFinding>& all, Level level, const std::string& text) {
  std::string seen;
  for (const GgufFinding& finding : all) {
    if (finding.level == level && finding.text.find(text) != std::string::npos) return testing::AssertionSuccess();
    seen += "\n  " + finding.text;
  }
  return testing::AssertionFailure() << "no finding says '" << text << "':" << seen;
}

using Texts = std::initializer_list<const char*>;
void expect(const std::vector<GgufFinding>& all, Level level, Texts texts) {
  for (const char* text : texts) EXPECT_TRUE(has(all, level, text));
}

GgufBuilder model() {
  GgufBuilder b;
  b.text("general.architecture", "qwen2vl");
  return b;
}
const std::string kData(32, '\0');

TEST(GgufCheck, AnOrdinaryFileHasNoFindings) {
  GgufBuilder b = model();
  b.u32("qwen2vl.block_count", 28).tensor("t", {8}, DType::kF32, kData);
  EXPECT_EQ(findings(b).size(), 0u) << findings(b)[0].text;
}

TEST(GgufCheck, FindsLayoutThatLlamaCppRefuses) {
  GgufBuilder gap = model();
  gap.info("a", {8}, 0, 0).info("b", {8}, 0, 64).data = std::string(96, 'x');
  EXPECT_TRUE(has(findings(gap), Level::kWarning, "tensor 'b' starts at byte"));
  GgufBuilder swapped = model();
  swapped.info("a", {8}, 0, 32).info("b", {8}, 0, 0).data = std::string(64, 'x');
  EXPECT_TRUE(has(findings(swapped), Level::kWarning, "not consecutive"));
  EXPECT_TRUE(has(findings(swapped), Level::kWarning, "2 of 2 tensors"));
}

TEST(GgufCheck, FindsTrailingBytesAndMissingPadding) {
  GgufBuilder trailing = model();
  trailing.tensor("t", {8}, DType::kF32, kData).data += "0123456789";
  EXPECT_TRUE(has(findings(trailing), Level::kNote, "10 bytes after the end of the data"));
  GgufBuilder unpadded = model();
  unpadded.tensor("t", {7}, DType::kF32, std::string(28, 'x'));
  EXPECT_TRUE(has(findings(unpadded), Level::kNote, "padding after the last tensor is missing (4 bytes)"));
  // Some writers pad the end of a file without tensors: nothing to mention.
  GgufBuilder padded = model();
  padded.text("general.type", "vocab");
  padded.data = std::string(32 - padded.build().size() % 32, '\0');
  EXPECT_TRUE(findings(padded).empty());
  padded.data += std::string(5, '\0');
  EXPECT_TRUE(has(findings(padded), Level::kNote, "5 bytes after"));
}

TEST(GgufCheck, FindsTensorsThatCannotBeUsed) {
  GgufBuilder b = model();
  b.tensor("a", {256}, DType::kNVFP4, std::string(144, 'x'))
      .tensor("b", {256, 2}, DType::kNVFP4, std::string(288, 'x'));
  b.tensor("n", {0, 3}, DType::kF32, "").tensor("s", {}, DType::kF32, le(1.0f));
  const auto all = findings(b);
  expect(all, Level::kWarning,
         {"type NVFP4, which glimpse cannot multiply: 2, the first 'a' nvfp4 (256)",
          "without elements: 1, the first 'n' f32 (0, 3)"});
  EXPECT_TRUE(has(all, Level::kNote, "without dimensions: 1, the first 's'"));
}

TEST(GgufCheck, FindsUnusualFileProperties) {
  GgufBuilder b;
  b.version = 2;
  b.alignment_key(8).tensor("t", {2}, DType::kF32, std::string(8, 'x'));
  const auto all = findings(b);
  expect(all, Level::kNote, {"version 2", "alignment 8 instead of 32"});
  EXPECT_TRUE(has(all, Level::kWarning, "'general.architecture' is missing"));
  EXPECT_TRUE(has(findings(GgufBuilder().alignment_key(4096).text("general.architecture", "x")), Level::kNote, "4096"));
  EXPECT_TRUE(
      has(findings(GgufBuilder().alignment_key(64).text("general.architecture", "x")), Level::kNote, "not the first"));
  EXPECT_TRUE(has(findings(model()), Level::kNote, "no tensors"));
}

TEST(GgufCheck, FindsKeysOfTheWrongType) {
  GgufBuilder b = model();
  b.u32("general.name", 3).text("qwen2vl.block_count", "28").u32("qwen2vl.attention.layer_norm_rms_epsilon", 0);
  b.text("tokenizer.ggml.tokens", "a").array("tokenizer.ggml.token_type", GgufType::kFloat32, 1, le(1.0f));
  b.key("qwen2vl.rope.freq_base", GgufType::kFloat32, le(1e6f)).u32("tokenizer.ggml.add_bos_token", 0);
  b.array("qwen2vl.attention.head_count", GgufType::kInt32, 1, le<int32_t>(12));
  const auto all = findings(b);
  expect(all, Level::kWarning,
         {"'general.name' is uint32; expected a string", "'qwen2vl.block_count' is string; expected an integer",
          "rms_epsilon' is uint32; expected a float", "'tokenizer.ggml.tokens' is string; expected an array of strings",
          "token_type' is array of 1 float32; expected an array of integers",
          "add_bos_token' is uint32; expected a bool"});
  EXPECT_FALSE(has(all, Level::kWarning, "freq_base"));
  EXPECT_FALSE(has(all, Level::kWarning, "head_count"));
}

TEST(GgufCheck, FindsOddValues) {
  GgufBuilder b = model();
  b.text("general.name", "").array("x.y", GgufType::kInt32, 0, "").text("x.utf8", "\xff\xfe").text("Grüße", "1");
  b.key("x.nan", GgufType::kFloat32, le(NAN)).array("x.inf", GgufType::kFloat64, 1, le(HUGE_VAL));
  b.array("x.texts", GgufType::kString, 2, str("\xc3") + str("\xc3\xa4"));
  const auto all = findings(b);
  expect(all, Level::kNote, {"'general.name' is an empty string", "'x.y' is an empty array", "unusual characters"});
  expect(all, Level::kWarning,
         {"'x.utf8' is not valid UTF-8", "'x.texts': 1 of its 2 strings", "'x.nan' is not finite",
          "'x.inf' is not finite"});
}

TEST(GgufCheck, FindsAVocabularyThatDoesNotFit) {
  GgufBuilder b = model();
  b.array("tokenizer.ggml.tokens", GgufType::kString, 3, str("a") + str("b") + str("a"));
  b.array("tokenizer.ggml.token_type", GgufType::kInt32, 2, le<int32_t>(1) + le<int32_t>(1));
  b.u32("tokenizer.ggml.eos_token_id", 3).u32("tokenizer.ggml.bos_token_id", 2);
  const auto all = findings(b);
  expect(all, Level::kWarning,
         {"token_type' has 2 entries for 3 tokens", "eos_token_id' is 3, but there are 3 tokens"});
  EXPECT_FALSE(has(all, Level::kWarning, "bos_token_id"));
  EXPECT_TRUE(has(all, Level::kWarning, "token 'a' appears more than once"));
}

TEST(GgufCheck, FindsAnotherQuantizationVersion) {
  GgufBuilder b = model();
  b.u32("general.quantization_version", 1).tensor("t", {32}, DType::kQ8_0, std::string(34, '\0'));
  EXPECT_TRUE(has(findings(b), Level::kWarning, "quantization_version is 1"));
}

// A tensor of two blocks whose second block has an infinite half at `offset`.
std::vector<GgufFinding> with_bad_scale(DType type, int offset) {
  const DTypeInfo& info = dtype_info(type);
  std::string data(2 * info.block_bytes, '\0');
  const size_t at = info.block_bytes + static_cast<uint32_t>(offset);
  data.replace(at, 2, le<uint16_t>(type == DType::kBF16 ? 0x7fc0 : 0xfc00));
  const ScaleType kind = block_format(type).d_type;
  if (kind == ScaleType::kPower) data[at] = static_cast<char>(253);
  if (kind == ScaleType::kNibbles) data.replace(at + 4, 4, le<uint16_t>(0xc000) + le<uint16_t>(0xf000));
  if (type == DType::kF32) data.replace(4, 4, le(NAN));
  const std::string bytes = model().tensor("t", {2 * info.block_length}, type, data).build();
  const auto file = parse(bytes);
  EXPECT_TRUE(file.ok()) << file.error().message;
  const auto all = check_gguf_data(file.value());
  EXPECT_TRUE(all.ok());
  return all.value();
}

TEST(GgufCheckData, FindsInfiniteScalesOfEveryWeightType) {
  for (const BlockFormat& f : kBlockFormats) {
    if (!f.info.is_weight) continue;
    const DType type = f.info.type;
    for (const int offset : {f.d_at, f.m_at}) {
      if (offset < 0) continue;
      const auto all = with_bad_scale(type, offset);
      ASSERT_EQ(all.size(), 1u) << dtype_name(type) << " " << offset;
      const std::string place = "the first at element " + std::to_string(dtype_info(type).block_length);
      EXPECT_TRUE(has(all, Level::kWarning, "1 of 2")) << dtype_name(type);
      EXPECT_TRUE(has(all, Level::kWarning, place)) << dtype_name(type);
    }
  }
  EXPECT_TRUE(with_bad_scale(DType::kQ8_0, 2).empty());  // quants may be anything
}

TEST(GgufCheckData, CanBeCancelled) {
  const std::string bytes = model().tensor("t", {8}, DType::kF32, kData).build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(fails(check_gguf_data(file.value(), [](std::string_view, double) { return false; }),
                    ErrorCode::kCancelled, "cancelled"));
}

}  // namespace
}  // namespace glimpse
