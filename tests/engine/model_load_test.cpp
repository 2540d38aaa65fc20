// Files that are bad, unusual or do not belong together.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "engine/base/half.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/model_editor.h"

namespace glimpse {
namespace {

using testing::golden_path;
using testing::GoldenCase;
using testing::ModelEditor;
using testing::must;

Result<std::shared_ptr<const Model>> load(const std::string& model, const std::string& mmproj = "") {
  ModelOptions options;
  options.model_path = model;
  options.mmproj_path = mmproj;
  options.use_reference = true;
  return Model::load(options);
}

// Expects the load to fail with a code and a message that holds every one of `parts`.
void expect_refused(const Result<std::shared_ptr<const Model>>& result, ErrorCode code,
                    const std::vector<std::string>& parts) {
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, code) << error_code_name(result.error().code) << ": " << result.error().message;
  for (const std::string& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos)
        << "want '" << part << "' in: " << result.error().message;
  }
}
void expect_text_refused(ModelEditor& editor, ErrorCode code, const std::vector<std::string>& parts) {
  expect_refused(load(editor.write()), code, parts);
}
void expect_mmproj_refused(ModelEditor& editor, ErrorCode code, const std::vector<std::string>& parts) {
  expect_refused(load(golden_path("tied/model.gguf"), editor.write()), code, parts);
}

std::vector<float> logits_of(std::shared_ptr<const Model> model, std::vector<TokenId> ids) {
  const auto ops = must(model->make_ops(1));
  const auto decoder = must(testing::OneText::create(model, *ops, 16, 16, KvElement::kF32));
  PositionCounter counter;
  std::vector<MropePosition> positions;
  counter.append_text(static_cast<int64_t>(ids.size()), positions);
  std::vector<float> logits(static_cast<size_t>(model->text().vocab_size));
  EXPECT_OK(decoder->forward({ids, positions, {}}, logits, false, {}, {}));
  return logits;
}
std::vector<float> golden_logits() {
  return logits_of(must(load(golden_path("tied/model.gguf"))), {5, 17, 300});
}

std::vector<float> embeddings_of(const std::string& mmproj) {
  const auto model = must(load(golden_path("tied/model.gguf"), mmproj));
  const auto ops = must(model->make_ops(1));
  return testing::encode_pictures(model, *ops, GoldenCase("tied/case-image.gguf"), nullptr);
}

// ------------------------------------------------------------------------------------------------ the wrong file

TEST(ModelLoad, MissingFileSaysItsName) {
  expect_refused(load("/nonexistent/model.gguf"), ErrorCode::kNotFound, {"/nonexistent/model.gguf"});
}

TEST(ModelLoad, MmprojGivenAsModelSaysSo) {
  expect_refused(load(golden_path("tied/mmproj.gguf")), ErrorCode::kUnsupported,
                 {"mmproj.gguf is a vision encoder", "not a text model"});
}

TEST(ModelLoad, TextModelGivenAsMmprojSaysSo) {
  expect_refused(load(golden_path("tied/model.gguf"), golden_path("untied/model.gguf")), ErrorCode::kUnsupported,
                 {"is a text model", "qwen2vl", "not an mmproj file"});
}

TEST(ModelLoad, FilesOfDifferentModelsDoNotBelongTogether) {
  expect_refused(load(golden_path("tied/model.gguf"), golden_path("untied/mmproj.gguf")), ErrorCode::kMismatch,
                 {"mmproj.gguf makes 80-wide image embeddings", "model.gguf expects 64",
                  "these two files do not belong together"});
}

TEST(ModelLoad, UnknownArchitectureIsNamed) {
  ModelEditor editor("tied/model.gguf");
  editor.set("general.architecture", "llama");
  expect_text_refused(editor, ErrorCode::kUnsupported, {"unknown architecture 'llama'", "qwen2vl"});
}

TEST(ModelLoad, OtherQwenModelsAreNamed) {
  ModelEditor editor("tied/model.gguf");
  editor.set("general.architecture", "qwen35");
  expect_text_refused(editor, ErrorCode::kUnsupported, {"qwen35 models are not supported yet", "qwen2vl, qwen3"});
}

TEST(ModelLoad, OtherProjectorsAreRefusedByName) {
  ModelEditor editor("tied/mmproj.gguf");
  editor.set("clip.projector_type", "ldpv2");
  expect_mmproj_refused(editor, ErrorCode::kUnsupported, {"projector type 'ldpv2'", "qwen3vl_merger"});
}

TEST(ModelLoad, EarlyQwen25ConversionIsRecognisedByItsGates) {
  for (const char* name : {"qwen25vl/mmproj.gguf", "qwen25vl/mmproj-legacy.gguf"}) {
    const VisionConfig c = must(read_vision_config(must(GgufFile::open(testing::golden_path(name)))));
    EXPECT_TRUE(c.rms_norm && c.gated_ffn) << name;
    EXPECT_EQ(c.window_cells, 2) << name;
    EXPECT_EQ(c.full_attention, (std::vector<bool>{false, true, false})) << name;
    EXPECT_EQ(c.projection_dim, 64) << name;
  }
}

TEST(ModelLoad, WindowsThatMakeNoSenseAreRefused) {
  ModelEditor small("qwen25vl/mmproj.gguf");
  small.set("clip.vision.window_size", 15);
  expect_refused(load(testing::golden_path("qwen25vl/model.gguf"), small.write()), ErrorCode::kCorrupt,
                 {"windows of 15 pixels"});
  ModelEditor listed("qwen25vl/mmproj-legacy.gguf");
  listed.set_ints("clip.vision.fullatt_block_indexes", {1, 3});
  expect_refused(load(testing::golden_path("qwen25vl/model.gguf"), listed.write()), ErrorCode::kCorrupt,
                 {"names layer 3 of 3"});
}

TEST(ModelLoad, WithoutAPatternAllLayersAreWithoutWindows) {
  ModelEditor editor("qwen25vl/mmproj.gguf");
  editor.remove_key("clip.vision.n_wa_pattern");
  EXPECT_EQ(must(load(testing::golden_path("qwen25vl/model.gguf"), editor.write()))->vision().window_cells, 0);
}

TEST(ModelLoad, DeepStackOfBothFilesMustAgree) {
  ModelEditor editor("qwen3vl/model.gguf");
  editor.set("qwen3vl.n_deepstack_layers", 1);
  expect_refused(load(editor.write(), testing::golden_path("qwen3vl/mmproj.gguf")), ErrorCode::kMismatch,
                 {"image embeddings for 2 layers", "takes them in 1", "do not belong together"});
  editor.set("qwen3vl.n_deepstack_layers", 4);
  expect_refused(load(editor.write()), ErrorCode::kCorrupt, {"n_deepstack_layers is 4, of 3 layers"});
}

TEST(ModelLoad, ATableOfPositionsIsASquare) {
  ModelEditor editor("qwen3vl/mmproj.gguf");
  ModelEditor::Tensor& table = editor.tensor("v.position_embd.weight");
  table.dims[1] = 35;
  table.bytes.resize(35 * 48 * 4);
  expect_refused(load(testing::golden_path("qwen3vl/model.gguf"), editor.write()), ErrorCode::kCorrupt,
                 {"v.position_embd.weight", "a square of positions"});
}

TEST(ModelLoad, ExpertsAreChecked) {
  const std::pair<const char*, uint64_t> bad[] = {
      {"qwen2moe.expert_count", 0}, {"qwen2moe.expert_count", 100000}, {"qwen2moe.expert_used_count", 7}};
  for (const auto& [key, value] : bad) {
    ModelEditor editor("qwen2moe/model.gguf");
    editor.set(key, value);
    expect_text_refused(editor, ErrorCode::kCorrupt, {key});
  }
  ModelEditor fewer("qwen2moe/model.gguf");
  fewer.set("qwen2moe.expert_count", 5);
  expect_text_refused(fewer, ErrorCode::kCorrupt, {"ffn_gate_inp.weight", "want (48, 5)"});
  ModelEditor missing("qwen2moe/model.gguf");
  missing.remove_tensor("blk.1.ffn_up_exps.weight");
  expect_text_refused(missing, ErrorCode::kCorrupt, {"blk.1.ffn_up_exps.weight is missing"});
}

TEST(ModelLoad, LayersOfDifferentHeadsAreNamed) {
  ModelEditor editor("tied/model.gguf");
  editor.set_ints("qwen2vl.attention.head_count_kv", {2, 2});
  EXPECT_EQ(must(load(editor.write()))->text().num_key_value_heads, 2);
  editor.set_ints("qwen2vl.attention.head_count_kv", {2, 1});
  expect_text_refused(editor, ErrorCode::kUnsupported, {"head_count_kv differs between layers (2 and 1)"});
  editor.set_ints("qwen2vl.attention.head_count_kv", {0, 2});
  expect_text_refused(editor, ErrorCode::kCorrupt, {"head_count_kv holds 0"});
}

TEST(ModelLoad, TruncatedFileIsRefused) {
  ModelEditor editor("tied/model.gguf");
  const std::string path = editor.write();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  expect_refused(load(path), ErrorCode::kTruncated, {"edited.gguf"});
}

// ------------------------------------------------------------------------------------------------- keys and tensors

TEST(ModelLoad, MissingKeyIsNamed) {
  for (const char* key :
       {"qwen2vl.embedding_length", "qwen2vl.block_count", "qwen2vl.attention.head_count", "qwen2vl.rope.freq_base"}) {
    ModelEditor editor("tied/model.gguf");
    editor.remove_key(key);
    expect_text_refused(editor, ErrorCode::kNotFound, {key});
  }
  ModelEditor mmproj("tied/mmproj.gguf");
  mmproj.remove_key("clip.vision.attention.head_count");
  expect_mmproj_refused(mmproj, ErrorCode::kNotFound, {"clip.vision.attention.head_count"});
}

TEST(ModelLoad, ImpossibleSizesAreRefused) {
  const std::pair<const char*, uint64_t> bad[] = {{"qwen2vl.embedding_length", 0},
                                                  {"qwen2vl.embedding_length", 4000000000},
                                                  {"qwen2vl.block_count", 0},
                                                  {"qwen2vl.attention.head_count", 0},
                                                  {"qwen2vl.attention.head_count_kv", 3},
                                                  {"qwen2vl.attention.key_length", 15}};
  for (const auto& [key, value] : bad) {
    ModelEditor editor("tied/model.gguf");
    editor.set(key, value);
    const auto result = load(editor.write());
    ASSERT_FALSE(result.ok()) << key << " " << value;
    EXPECT_EQ(result.error().code, ErrorCode::kCorrupt) << result.error().message;
  }
  ModelEditor heads("tied/mmproj.gguf");
  heads.set("clip.vision.attention.head_count", 5);
  expect_mmproj_refused(heads, ErrorCode::kCorrupt, {"48", "5 heads"});
}

TEST(ModelLoad, MoreLayersThanTensorsNamesTheFirstMissingOne) {
  ModelEditor editor("tied/model.gguf");
  editor.set("qwen2vl.block_count", 3);
  expect_text_refused(editor, ErrorCode::kCorrupt, {"blk.2.attn_norm.weight is missing"});
}

TEST(ModelLoad, MissingTensorIsNamed) {
  ModelEditor editor("tied/model.gguf");
  editor.remove_tensor("blk.1.ffn_down.weight");
  expect_text_refused(editor, ErrorCode::kCorrupt, {"blk.1.ffn_down.weight is missing", "(92, 64)"});
  ModelEditor bias("tied/model.gguf");
  bias.remove_tensor("blk.0.attn_k.bias");
  expect_text_refused(bias, ErrorCode::kCorrupt, {"blk.0.attn_k.bias is missing"});
  ModelEditor frame("tied/mmproj.gguf");
  frame.remove_tensor("v.patch_embd.weight.1");
  expect_mmproj_refused(frame, ErrorCode::kCorrupt, {"v.patch_embd.weight.1 is missing"});
}

TEST(ModelLoad, WrongShapeSaysWhatWasWantedAndFound) {
  ModelEditor editor("tied/model.gguf");
  editor.tensor("blk.1.attn_q.weight").dims = {128, 32};
  expect_text_refused(editor, ErrorCode::kCorrupt,
                      {"blk.1.attn_q.weight: want (64, 64) of a weight type, file has f32 (128, 32)"});
  ModelEditor vision("tied/mmproj.gguf");
  vision.tensor("v.blk.0.attn_out.weight").dims = {24, 96};
  expect_mmproj_refused(vision, ErrorCode::kCorrupt, {"v.blk.0.attn_out.weight: want (48, 48)", "f16 (24, 96)"});
}

TEST(ModelLoad, UnsupportedTypeIsNamed) {
  ModelEditor editor("quantized/model.gguf");
  ModelEditor::Tensor& tensor = editor.tensor("blk.0.attn_q.weight");
  tensor.type = DType::kNVFP4;
  tensor.bytes.resize(dtype_row_bytes(DType::kNVFP4, 256) * 256);
  expect_text_refused(editor, ErrorCode::kUnsupported, {"blk.0.attn_q.weight", "nvfp4 (256, 256)", "Q4_K"});
}

TEST(ModelLoad, NormsMustBeFloats) {
  ModelEditor editor("quantized/model.gguf");
  ModelEditor::Tensor& tensor = editor.tensor("blk.0.attn_norm.weight");
  tensor.type = DType::kQ8_0;
  tensor.bytes.resize(dtype_row_bytes(DType::kQ8_0, 256));
  expect_text_refused(editor, ErrorCode::kUnsupported, {"blk.0.attn_norm.weight", "of a float type", "q8_0 (256)"});
}

TEST(ModelLoad, NanAmongTheWeightsNamesTensorAndRow) {
  for (const char* name : {"blk.1.ffn_up.weight", "token_embd.weight"}) {
    ModelEditor editor("tied/model.gguf");
    editor.floats(name)[64 * 7 + 3] = std::numeric_limits<float>::quiet_NaN();
    expect_text_refused(editor, ErrorCode::kNumeric, {name, "row 7", "edited.gguf"});
  }
  ModelEditor bias("tied/model.gguf");
  bias.floats("blk.0.attn_v.bias")[5] = std::numeric_limits<float>::infinity();
  expect_text_refused(bias, ErrorCode::kNumeric, {"blk.0.attn_v.bias", "element 5"});
  ModelEditor vision("tied/mmproj.gguf");
  const uint16_t nan = 0x7e00;
  std::memcpy(vision.tensor("v.patch_embd.weight.1").bytes.data() + 588 * 2 * 3, &nan, 2);
  expect_mmproj_refused(vision, ErrorCode::kNumeric, {"v.patch_embd.weight.1", "row 3"});
}

TEST(ModelLoad, NoVocabularyIsSaid) {
  ModelEditor editor("tied/model.gguf");
  editor.remove_key("tokenizer.ggml.tokens");
  expect_text_refused(editor, ErrorCode::kCorrupt, {"tokenizer.ggml.tokens"});
}

TEST(ModelLoad, MoreTokensThanEmbeddingRowsIsRefused) {
  ModelEditor editor("tied/model.gguf");
  ModelEditor::Tensor& table = editor.tensor("token_embd.weight");
  table.dims[1] = 319;
  table.bytes.resize(319 * 64 * 4);
  expect_text_refused(editor, ErrorCode::kCorrupt, {"320 tokens", "319 rows"});
}

// A large vocabulary is read beside the weights when there are threads.
TEST(ModelLoad, VocabularyBesideTheWeightsIsTheSame) {
  ModelEditor editor("tied/model.gguf");
  ModelEditor::Tensor& table = editor.tensor("token_embd.weight");
  table.dims[1] = 9000;
  table.bytes.resize(9000 * 64 * 4);
  const auto load_with = [](const std::string& path, int n_threads) {
    ModelOptions options;
    options.model_path = path;
    options.n_threads = n_threads;
    return Model::load(options);
  };
  const std::string good = editor.write();
  const auto alone = must(load_with(good, 1)), beside = must(load_with(good, 2));
  ASSERT_EQ(beside->tokenizer().size(), 320);
  for (TokenId id = 0; id < 320; ++id) {
    EXPECT_EQ(beside->tokenizer().token_bytes(id, true), alone->tokenizer().token_bytes(id, true));
  }
  EXPECT_EQ(must(beside->tokenizer().encode("one word or two", {})),
            must(alone->tokenizer().encode("one word or two", {})));
  std::vector<float> logits = logits_of(beside, {5, 17, 300});
  logits.resize(320);
  EXPECT_EQ(logits, logits_of(must(load_with(golden_path("tied/model.gguf"), 1)), {5, 17, 300}));
  // Its error is the load's, whatever the weights have come to.
  editor.name_token(298, "zzq").name_token(299, "zzq");
  const std::string bad = editor.write();
  for (const int n_threads : {1, 2}) {
    expect_refused(load_with(bad, n_threads), ErrorCode::kCorrupt, {"token 299: same text as token 298"});
  }
  std::fill_n(editor.tensor("blk.0.ffn_up.weight").bytes.begin(), 64, std::byte{0xff});
  const std::string worse = editor.write();
  for (const int n_threads : {1, 2}) {
    expect_refused(load_with(worse, n_threads), ErrorCode::kCorrupt, {"token 299: same text as token 298"});
  }
}

TEST(ModelLoad, RotaryScalingIsNotSilentlyIgnored) {
  ModelEditor editor("tied/model.gguf");
  editor.set("qwen2vl.rope.scaling.type", "longrope").set("qwen2vl.rope.scaling.factor", 4);
  expect_text_refused(editor, ErrorCode::kUnsupported, {"'longrope'", "linear, yarn"});
}

TEST(ModelLoad, SectionsThatDoNotFitAHeadAreRefused) {
  ModelEditor editor("tied/model.gguf");
  editor.set_ints("qwen2vl.rope.dimension_sections", {16, 24, 24, 0});
  expect_text_refused(editor, ErrorCode::kCorrupt, {"rope.dimension_sections", "8 rotation pairs"});
}

// ------------------------------------------------------------------------------------------- unusual but valid files

TEST(ModelLoad, SectionsHaveADefault) {
  const GoldenCase golden("tied/case-image.gguf");
  for (int variant = 0; variant < 3; ++variant) {
    ModelEditor editor("tied/model.gguf");
    if (variant == 0) editor.remove_key("qwen2vl.rope.dimension_sections");
    if (variant == 1) editor.set_ints("qwen2vl.rope.dimension_sections", {0, 0, 0, 0});
    if (variant == 2) editor.set_ints("qwen2vl.rope.dimension_sections", {2, 3, 3});
    const auto model = must(load(editor.write()));
    EXPECT_EQ(model->text().mrope_section.count[0], 2);
    EXPECT_EQ(model->text().mrope_section.count[1], 3);
    EXPECT_EQ(model->text().mrope_section.count[2], 3);
  }
}

TEST(ModelLoad, OptionalTextKeysMayBeMissing) {
  ModelEditor editor("tied/model.gguf");
  editor.remove_key("qwen2vl.context_length").remove_key("qwen2vl.feed_forward_length");
  editor.remove_key("qwen2vl.attention.layer_norm_rms_epsilon").remove_key("tokenizer.chat_template");
  const auto model = must(load(editor.write()));
  EXPECT_EQ(model->chat_format().default_system, "You are a helpful assistant.");
  EXPECT_EQ(model->text().intermediate_size, 92);
  EXPECT_EQ(logits_of(model, {5, 17, 300}), golden_logits());
}

TEST(ModelLoad, FusedProjectionsGiveTheSameBits) {
  ModelEditor text("tied/model.gguf");
  for (const char* layer : {"blk.0.", "blk.1."}) {
    for (const char* kind : {".weight", ".bias"}) {
      const std::string p = layer + std::string("attn_");
      text.join({p + "q" + kind, p + "k" + kind, p + "v" + kind}, p + "qkv" + kind);
    }
  }
  EXPECT_EQ(logits_of(must(load(text.write())), {5, 17, 300}), golden_logits());

  ModelEditor vision("tied/mmproj.gguf");
  for (const char* kind : {".weight", ".bias"}) {
    const std::string p = "v.blk.1.attn_";  // one layer only: the layout is found layer by layer
    vision.join({p + "q" + kind, p + "k" + kind, p + "v" + kind}, p + "qkv" + kind);
  }
  EXPECT_EQ(embeddings_of(vision.write()), embeddings_of(golden_path("tied/mmproj.gguf")));
}

TEST(ModelLoad, OutputMatrixEqualToTheEmbeddingsGivesTheTiedBits) {
  ModelEditor editor("tied/model.gguf");
  ModelEditor::Tensor output = editor.tensor("token_embd.weight");
  output.name = "output.weight";
  editor.add(output);
  const auto model = must(load(editor.write()));
  EXPECT_FALSE(model->text().tied_embeddings);
  EXPECT_NE(model->text_weights().output.weight, model->text_weights().token_embd);
  EXPECT_EQ(logits_of(model, {5, 17, 300}), golden_logits());
}

TEST(ModelLoad, OutputBiasIsAdded) {
  ModelEditor editor("tied/model.gguf");
  ModelEditor::Tensor bias{"output.bias", DType::kF32, {320}, std::vector<std::byte>(320 * 4)};
  const float one = 1000;
  std::memcpy(bias.bytes.data() + 4 * 11, &one, 4);
  editor.add(bias);
  const std::vector<float> got = logits_of(must(load(editor.write())), {5, 17, 300}), plain = golden_logits();
  EXPECT_NEAR(got[11], plain[11] + 1000, 1e-3);
  EXPECT_EQ(got[12], plain[12]);
}

TEST(ModelLoad, PlainQwen2IsOneDimensional) {
  ModelEditor editor("tied/model.gguf");
  const std::pair<const char*, uint64_t> numbers[] = {{"qwen2.embedding_length", 64},
                                                      {"qwen2.block_count", 2},
                                                      {"qwen2.attention.head_count", 4},
                                                      {"qwen2.attention.head_count_kv", 2},
                                                      {"qwen2.rope.freq_base", 1000000}};
  editor.set("general.architecture", "qwen2");
  for (const auto& [key, value] : numbers) editor.set(key, value);
  EXPECT_EQ(logits_of(must(load(editor.write())), {5, 17, 300}), golden_logits());  // text: all axes are equal
}

TEST(ModelLoad, MmprojVariantsGiveTheSameEmbeddings) {
  const std::vector<float> want = embeddings_of(golden_path("tied/mmproj.gguf"));

  ModelEditor bare("tied/mmproj.gguf");  // only what cannot be told from the tensors
  for (const char* key :
       {"general.type", "clip.vision.patch_size", "clip.vision.embedding_length", "clip.vision.feed_forward_length",
        "clip.vision.projection_dim", "clip.vision.block_count", "clip.vision.attention.layer_norm_epsilon",
        "clip.vision.image_mean", "clip.vision.image_std", "clip.vision.image_size"}) {
    bare.remove_key(key);
  }
  EXPECT_EQ(embeddings_of(bare.write()), want);

  ModelEditor oldest("tied/mmproj-legacy.gguf");  // the flag alone names the projector
  oldest.remove_key("clip.projector_type");
  EXPECT_EQ(embeddings_of(oldest.write()), want);

  ModelEditor mixed("tied/mmproj.gguf");  // swapped names in one layer only
  for (const char* kind : {".weight", ".bias"}) {
    mixed.rename(std::string("v.blk.1.ffn_up") + kind, "x")
        .rename(std::string("v.blk.1.ffn_down") + kind, std::string("v.blk.1.ffn_up") + kind);
    mixed.rename("x", std::string("v.blk.1.ffn_down") + kind);
  }
  EXPECT_EQ(embeddings_of(mixed.write()), want);

  ModelEditor elsewhere("tied/mmproj.gguf");
  elsewhere.remove_key("clip.projector_type").set("clip.vision.projector_type", "qwen2vl_merger");
  EXPECT_EQ(embeddings_of(elsewhere.write()), want);
}

TEST(ModelLoad, MmprojInFloatsGivesTheSameBitsAsInHalves) {
  ModelEditor editor("tied/mmproj.gguf");
  for (const char* name : {"v.blk.0.ffn_up.weight", "mm.0.weight", "v.patch_embd.weight"}) {
    ModelEditor::Tensor& tensor = editor.tensor(name);
    ASSERT_EQ(tensor.type, DType::kF16);
    std::vector<std::byte> wide(tensor.bytes.size() * 2);
    dequantize_row_ref(DType::kF16, tensor.bytes.data(), reinterpret_cast<float*>(wide.data()),
                       static_cast<int64_t>(tensor.bytes.size() / 2));
    tensor.type = DType::kF32;
    tensor.bytes = wide;
  }
  EXPECT_EQ(embeddings_of(editor.write()), embeddings_of(golden_path("tied/mmproj.gguf")));
}

// ------------------------------------------------------------------------------------------------ the load itself

TEST(ModelLoad, ConfigurationSaysWhatTheFilesHold) {
  const auto model = must(load(golden_path("untied/model.gguf"), golden_path("untied/mmproj.gguf")));
  const TextConfig& t = model->text();
  EXPECT_EQ(t.architecture, "qwen2vl");
  EXPECT_EQ(t.hidden_size, 80);
  EXPECT_EQ(t.num_hidden_layers, 3);
  EXPECT_EQ(t.num_attention_heads, 5);
  EXPECT_EQ(t.num_key_value_heads, 1);
  EXPECT_EQ(t.head_dim, 16);
  EXPECT_EQ(t.intermediate_size, 101);
  EXPECT_EQ(t.vocab_size, 320);
  EXPECT_EQ(t.max_position_embeddings, 512);
  EXPECT_EQ(t.rope_theta, 1e6);
  EXPECT_FLOAT_EQ(t.rms_norm_eps, 1e-6f);
  EXPECT_FALSE(t.tied_embeddings);
  const VisionConfig& v = model->vision();
  EXPECT_EQ(v.hidden_size, 32);
  EXPECT_EQ(v.num_hidden_layers, 3);
  EXPECT_EQ(v.num_heads, 2);
  EXPECT_EQ(v.head_dim, 16);
  EXPECT_EQ(v.intermediate_size, 67);  // the key says 80
  EXPECT_EQ(v.projection_dim, 80);
  EXPECT_EQ(v.patch.patch_size, 8);
  EXPECT_EQ(v.patch.merge_size, 2);
  EXPECT_EQ(model->chat_format().name, "ChatML, no tools, no thinking, a default system text");
  EXPECT_EQ(model->tokenizer().eos(), model->tokenizer().find("<|im_end|>"));
  EXPECT_TRUE(model->has_vision());
  EXPECT_GT(model->weight_bytes(), 500000u);
}

TEST(ModelLoad, ProgressRisesToOne) {
  ModelOptions options;
  options.model_path = golden_path("tied/model.gguf");
  options.mmproj_path = golden_path("tied/mmproj.gguf");
  options.use_reference = true;
  std::vector<double> seen;
  options.progress = [&](std::string_view, double fraction) {
    seen.push_back(fraction);
    return true;
  };
  EXPECT_OK(Model::load(options));
  ASSERT_GT(seen.size(), 10u);
  EXPECT_EQ(seen.front(), 0);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_GT(seen.back(), 0.97);  // matrices report; the vectors between them are small
  EXPECT_LE(seen.back(), 1.0);
}

TEST(ModelLoad, ProgressCanCancel) {
  for (const int stop_at : {0, 3}) {
    ModelOptions options;
    options.model_path = golden_path("tied/model.gguf");
    options.use_reference = true;
    int calls = 0;
    options.progress = [&](std::string_view, double) { return calls++ < stop_at; };
    expect_refused(Model::load(options), ErrorCode::kCancelled, {"cancelled"});
    EXPECT_EQ(calls, stop_at + 1);
  }
}

TEST(ModelLoad, WithoutMmprojThereIsNoVision) {
  const auto model = must(load(golden_path("tied/model.gguf")));
  EXPECT_FALSE(model->has_vision());
  const auto ops = must(model->make_ops(1));
  const auto encoder = VisionEncoder::create(model, *ops, 16);
  ASSERT_FALSE(encoder.ok());
  EXPECT_EQ(encoder.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace glimpse
