// Every tensor of a file is used or named: an error where the answers would differ, a warning where they cannot.
#include "engine/model/unused_tensors.h"

#include <gtest/gtest.h>

#include <functional>
#include <span>

#include "engine/model/check_model.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/model_editor.h"

namespace glimpse {
namespace {

using testing::golden_path;
using testing::ModelEditor;
using testing::must;

using Tensor = ModelEditor::Tensor;

Tensor floats(const std::string& name, const std::vector<uint64_t>& dims, float value) {
  Tensor tensor{name, DType::kF32, dims, {}};
  uint64_t n = 1;
  for (const uint64_t dim : dims) n *= dim;
  const std::vector<float> values(n, value);
  const auto bytes = std::as_bytes(std::span(values));
  tensor.bytes.assign(bytes.begin(), bytes.end());
  return tensor;
}

struct Loaded {
  Result<std::shared_ptr<const Model>> model;
  std::vector<std::string> warnings;
};
Loaded load(const std::string& model, const std::string& mmproj) {
  std::vector<std::string> warnings;
  ModelOptions options;
  options.model_path = model;
  options.mmproj_path = mmproj;
  options.use_reference = true;
  options.log = [&](LogLevel level, std::string_view text) {
    if (level >= LogLevel::kWarning) warnings.emplace_back(text);
  };
  auto loaded = Model::load(options);
  return {std::move(loaded), std::move(warnings)};
}

// A golden file with one change, loaded and inspected: both name the tensor and the reason.
struct Case {
  const char* file;
  std::function<void(ModelEditor&)> change;
  std::vector<std::string> words;
};

Loaded load_changed(const Case& c, std::vector<GgufFinding>& findings) {
  ModelEditor editor(c.file);
  c.change(editor);
  const std::string path = editor.write();
  findings = check_model(must(GgufFile::open(path)));
  const bool vision = std::string(c.file).ends_with("mmproj.gguf");
  return load(vision ? golden_path("tied/model.gguf") : path, vision ? path : "");
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    EXPECT_NE(text.find(word), std::string::npos) << "want '" << word << "': " << text;
}

// Adds a tensor of one value.
std::function<void(ModelEditor&)> block(const char* name, const std::vector<uint64_t>& dims, float value = 0.5f) {
  return [=](ModelEditor& editor) { editor.add(floats(name, dims, value)); };
}

template <typename Check>
void check_each(std::span<const Case> cases, Check check) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.words[0]);
    std::vector<GgufFinding> findings;
    const Loaded loaded = load_changed(c, findings);
    check(c, loaded, findings);
  }
}

TEST(UnusedTensors, ThoseThatChangeTheResultAreErrors) {
  const char* const text = "tied/model.gguf";
  const char* const vision = "tied/mmproj.gguf";
  const Case cases[] = {
      {text, [](auto& e) { e.set("qwen2vl.block_count", 1); }, {"12 tensors", "'blk.1.", "block_count is 1"}},
      {text, block("blk.0.attn_output.bias", {64}), {"'blk.0.attn_output.bias' f32 (64)"}},
      {text, block("blk.1.ffn_down.bias", {64}), {"'blk.1.ffn_down.bias'"}},
      {text, block("blk.0.attn_q_norm.weight", {16}), {"'blk.0.attn_q_norm.weight'"}},
      {text, block("token_embd.bias", {64}), {"'token_embd.bias'"}},
      {text, block("token_embd_norm.weight", {64}), {"'token_embd_norm.weight'"}},
      {text, block("rope_factors_long.weight", {8}), {"'rope_factors_long", "rotation"}},
      {text, block("blk.0.attn_q.bais", {64}), {"'blk.0.attn_q.bais'"}},
      {vision, [](auto& e) { e.set("clip.vision.block_count", 1); }, {"16 tensors", "'v.blk.1.", "block_count is 1"}},
      {vision, block("v.patch_embd.bias", {48}), {"'v.patch_embd.bias'"}},
      {vision, block("v.class_embd", {48}), {"'v.class_embd'"}},
      {vision, block("v.pre_ln.weight", {48}), {"'v.pre_ln.weight'"}},
      {vision, block("v.position_embd.weight", {48, 16}), {"'v.position_embd.weight'"}},
      {vision, block("v.blk.0.ls1.weight", {48}), {"'v.blk.0.ls1.weight'"}},
  };
  check_each(cases, [](const Case& c, const Loaded& loaded, const std::vector<GgufFinding>& findings) {
    ASSERT_FALSE(loaded.model.ok());
    const bool count = c.words.back().starts_with("block_count");
    EXPECT_EQ(loaded.model.error().code, count ? ErrorCode::kCorrupt : ErrorCode::kUnsupported);
    expect_words(loaded.model.error().message, c.words);
    expect_words(loaded.model.error().message, {"edited.gguf", "not used"});
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_EQ(findings[0].level, GgufFinding::Level::kWarning);
    expect_words(findings[0].text, c.words);
    expect_words(findings[0].text, {"does not load"});
  });
}

TEST(UnusedTensors, ThoseThatCannotAreWarnings) {
  const char* const text = "tied/model.gguf";
  const char* const vision = "tied/mmproj.gguf";
  const Case cases[] = {
      {text, block("blk.0.attn_output.bias", {64}, 0), {"'blk.0.attn_output.bias'", "are 0"}},
      {text, block("blk.0.attn_rot_embd.weight", {8}), {"rotation are computed"}},
      {text, block("v.patch_embd.weight", {8, 8}), {"as mmproj"}},
      {text, block("cls.output.weight", {64, 2}), {"classifier"}},
      {vision, block("v.position_embd.weight", {10, 10}, 0), {"'v.position_embd.weight'", "are 0"}},
      {vision, block("v.patch_embd.bias", {48}, 0), {"'v.patch_embd.bias'"}},
      {vision, block("a.conv1d.0.weight", {8, 8}), {"audio"}},
      {vision, block("blk.0.attn_norm.weight", {8}), {"as model"}},
  };
  check_each(cases, [](const Case& c, const Loaded& loaded, const std::vector<GgufFinding>& findings) {
    ASSERT_TRUE(loaded.model.ok()) << loaded.model.error().message;
    ASSERT_EQ(loaded.warnings.size(), 1u);
    expect_words(loaded.warnings[0], c.words);
    ASSERT_EQ(findings.size(), 1u);
    expect_words(findings[0].text, c.words);
    EXPECT_EQ(findings[0].text.find("does not load"), std::string::npos);
  });
}

TEST(UnusedTensors, NothingIsSaidOfWholeFiles) {
  for (const char* name :
       {"tied/model.gguf", "tied/mmproj.gguf", "untied/model.gguf", "untied/mmproj.gguf", "quantized/model.gguf"}) {
    EXPECT_TRUE(check_model(must(GgufFile::open(golden_path(name)))).empty()) << name;
  }
  EXPECT_TRUE(load(golden_path("tied/model.gguf"), golden_path("tied/mmproj.gguf")).warnings.empty());
}

TEST(UnusedTensors, InspectSaysWhatLoadingWouldSay) {
  ModelEditor editor("tied/model.gguf");
  editor.remove_tensor("blk.1.ffn_down.weight");
  const auto findings = check_model(must(GgufFile::open(editor.write())));
  ASSERT_EQ(findings.size(), 1u);
  expect_words(findings[0].text, {"does not load", "blk.1.ffn_down.weight is missing"});
}

TEST(UnusedTensors, ATextModelBesideAVisionFileIsAWarning) {
  ModelEditor editor("tied/model.gguf");
  editor.set("general.architecture", "qwen2");
  const std::pair<const char*, uint64_t> numbers[] = {{"qwen2.embedding_length", 64},
                                                      {"qwen2.block_count", 2},
                                                      {"qwen2.attention.head_count", 4},
                                                      {"qwen2.attention.head_count_kv", 2},
                                                      {"qwen2.rope.freq_base", 1000000}};
  for (const auto& [key, value] : numbers) editor.set(key, value);
  const std::string path = editor.write();
  const Loaded loaded = load(path, golden_path("tied/mmproj.gguf"));
  ASSERT_TRUE(loaded.model.ok());
  ASSERT_EQ(loaded.warnings.size(), 1u);
  expect_words(loaded.warnings[0], {"qwen2 model", "not trained on pictures", "mmproj.gguf"});
  EXPECT_TRUE(load(path, "").warnings.empty());
}

}  // namespace
}  // namespace glimpse
