// Text and vision in one file: the answers are those of the two files.
#include "engine/model/one_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/generate/picture_encoder.h"
#include "engine/model/check_model.h"
#include "tests/engine/model_editor.h"

namespace glimpse::testing {
namespace {

// The golden pair in one file. keys: llama.cpp's own, or those of Ollama with its names of tensors.
std::string one_file(ModelEditor& text, const std::string& pair, bool as_ollama) {
  const GgufFile vision = must(GgufFile::open(golden_path(pair + "/mmproj.gguf")));
  const std::string architecture =
      must(must(GgufFile::open(golden_path(pair + "/model.gguf"))).require_string("general.architecture"));
  std::vector<int64_t> taps;
  for (int64_t i = 0; i < 16; ++i) {
    if (vision.find_tensor("v.deepstack." + std::to_string(i) + ".fc1.weight") != nullptr) taps.push_back(i);
  }
  for (const std::string& key : vision.keys()) {
    if (!key.starts_with("clip.")) continue;
    if (!as_ollama) {
      text.set_value(key, *vision.find(key));
    } else if (key.starts_with("clip.vision.")) {
      text.set_value(architecture + ".vision." + key.substr(12), *vision.find(key));
    }
  }
  if (as_ollama) {
    text.set_ints(architecture + ".vision.deepstack_visual_indexes", taps);
    text.remove_key(architecture + ".n_deepstack_layers");
  }
  std::vector<std::byte> frames[2];
  for (const GgufTensor& t : vision.tensors()) {
    ModelEditor::Tensor tensor{t.name, t.type, std::vector<uint64_t>(t.dims, t.dims + t.n_dims), {}};
    tensor.bytes.resize(t.n_bytes);
    EXPECT_OK(vision.read(t, 0, tensor.bytes));
    if (as_ollama) {
      if (t.name == "v.patch_embd.weight" || t.name == "v.patch_embd.weight.1") {
        const bool second = t.name.ends_with(".1");
        frames[second ? 1 : 0] = tensor.bytes;
        if (frames[0].empty() || frames[1].empty()) continue;
        // (p, p, 3, h) twice to (p, p, 2, 3 * h)
        const size_t plane = t.n_bytes / (t.dims[2] * t.dims[3]);
        tensor.bytes.clear();
        for (size_t i = 0; i < t.dims[2] * t.dims[3]; ++i) {
          for (const auto& frame : frames) {
            tensor.bytes.insert(tensor.bytes.end(), frame.begin() + static_cast<ptrdiff_t>(i * plane),
                                frame.begin() + static_cast<ptrdiff_t>((i + 1) * plane));
          }
        }
        tensor.name = "v.patch_embed.weight";
        tensor.dims = {t.dims[0], t.dims[1], 2, 3 * t.dims[3]};
      }
      const auto rename = [&](const char* from, const std::string& to) {
        if (const size_t at = tensor.name.find(from); at != std::string::npos) {
          tensor.name.replace(at, std::strlen(from), to);
        }
      };
      rename("v.patch_embd.bias", "v.patch_embed.bias");
      rename("v.position_embd", "v.pos_embed");
      rename(".ln1.", ".norm1.");
      rename(".ln2.", ".norm2.");
      rename(".ffn_up.", ".mlp.linear_fc1.");
      rename(".ffn_down.", ".mlp.linear_fc2.");
      rename("mm.0", "v.merger.linear_fc1");
      rename("mm.2", "v.merger.linear_fc2");
      rename("v.post_ln", "v.merger.norm");
      for (size_t i = 0; i < taps.size(); ++i) {
        rename(("v.deepstack." + std::to_string(taps[i]) + ".").c_str(),
               "v.deepstack_merger." + std::to_string(i) + ".");
      }
      rename(".fc1.", ".linear_fc1.");
      rename(".fc2.", ".linear_fc2.");
    }
    text.add(std::move(tensor));
  }
  return text.write();
}

std::shared_ptr<const Model> load(const std::string& model, const std::string& mmproj, const LogSink& log = {}) {
  ModelOptions options;
  options.model_path = model;
  options.mmproj_path = mmproj;
  options.use_reference = true;
  options.n_threads = 1;
  options.vision_precision = VisionPrecision::kF32;
  options.log = log;
  return must(Model::load(options));
}

std::vector<float> embedding_of(const std::shared_ptr<const Model>& model, const std::string& pair) {
  EncoderOptions options;
  options.image_limits = {1, 1 << 20};
  const auto encoder = must(PictureEncoder::create(model, options));
  const std::vector<Image> pictures = GoldenCase(pair + "/case-image.gguf").pictures();
  const auto reader = read_pixels_of(pictures[0].pixels.data(), pictures[0].width, pictures[0].height,
                                     3 * static_cast<size_t>(pictures[0].width));
  return must(encoder->encode(*reader, nullptr, {})).values;
}

TEST(OneFile, EncodesAsTheTwoFilesDo) {
  struct Row {
    const char* pair;
    bool as_ollama;
  };
  for (const Row& row : {Row{"tied", false}, Row{"qwen25vl", false}, Row{"qwen3vl", false}, Row{"qwen3vl", true}}) {
    const std::string pair = row.pair;
    const auto two = load(golden_path(pair + "/model.gguf"), golden_path(pair + "/mmproj.gguf"));
    ModelEditor editor(pair + "/model.gguf");
    const std::string path = one_file(editor, pair, row.as_ollama);
    std::vector<std::string> warnings;
    const LogSink log = [&](LogLevel level, std::string_view text) {
      if (level >= LogLevel::kWarning) warnings.emplace_back(text);
    };
    const std::vector<float> want = embedding_of(two, pair);
    for (const std::string& mmproj : {std::string(), path}) {
      const auto one = load(path, mmproj, log);
      ASSERT_TRUE(one->has_vision()) << pair;
      EXPECT_EQ(embedding_of(one, pair), want) << pair << row.as_ollama;
      EXPECT_EQ(one->text().num_deepstack_layers, two->text().num_deepstack_layers);
    }
    // Its encoder serves another text model's file, too.
    EXPECT_EQ(embedding_of(load(golden_path(pair + "/model.gguf"), path), pair), want);
    EXPECT_EQ(warnings, std::vector<std::string>()) << pair;
    for (const GgufFinding& finding : check_model(must(GgufFile::open(path)))) ADD_FAILURE() << finding.text;
  }
}

TEST(OneFile, SaysWhatIsWrongInside) {
  ModelEditor editor("qwen3vl/model.gguf");
  editor.set_ints("qwen3vl.vision.deepstack_visual_indexes", {0});
  editor.add({"v.patch_embed.weight", DType::kF32, {2}, std::vector<std::byte>(8)});
  editor.add({"v.blk.0.norm1.weight", DType::kF32, {2}, std::vector<std::byte>(8)});
  editor.add({"v.deepstack_merger.1.norm.weight", DType::kF32, {2}, std::vector<std::byte>(8)});
  ModelOptions options;
  options.model_path = editor.write();
  const auto model = Model::load(options);
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().message.find("v.deepstack_merger.1.norm.weight: the file names 1 blocks for DeepStack"),
            std::string::npos)
      << model.error().message;
}

TEST(OneFile, SectionsAndHeadsComeInOtherForms) {
  const auto two = load(golden_path("qwen3vl/model.gguf"), "");
  ModelEditor editor("qwen3vl/model.gguf");
  std::vector<int64_t> sections;
  for (const int64_t n : two->text().mrope_section.count) sections.push_back(n);
  editor.remove_key("qwen3vl.rope.dimension_sections").set_ints("qwen3vl.rope.mrope_section", sections);
  const int64_t kv_heads = two->text().num_key_value_heads;
  editor.set_ints("qwen3vl.attention.head_count_kv",
                  std::vector<int64_t>(static_cast<size_t>(two->text().num_hidden_layers), kv_heads));
  const auto other = load(editor.write(), "");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(other->text().mrope_section.count[i], two->text().mrope_section.count[i]);
  EXPECT_EQ(other->text().num_key_value_heads, kv_heads);
}

}  // namespace
}  // namespace glimpse::testing
