// Which tensor gets which type, and what is refused before anything is written.
#include "tools/quantize/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;
using testing::ElementsAre;

std::string zeros(uint64_t n) {
  return std::string(n, '\0');
}

GgufBuilder text_header(const std::string& architecture = "qwen2vl", uint32_t n_layers = 8, uint32_t n_heads = 8,
                        uint32_t n_kv_heads = 2) {
  GgufBuilder b;
  b.text("general.architecture", architecture);
  b.u32(architecture + ".block_count", n_layers);
  b.u32(architecture + ".attention.head_count", n_heads);
  b.u32(architecture + ".attention.head_count_kv", n_kv_heads);
  return b;
}

// An F16 matrix of two rows.
void add(GgufBuilder& b, const std::string& name, uint64_t columns = 256, DType type = DType::kF16) {
  b.tensor(name, {columns, 2}, type, zeros(2 * dtype_row_bytes(type, columns)));
}

// The planned types by tensor, "NAME TYPE", with a star for a fallback.
struct Planned {
  std::string bytes;
  Result<GgufFile> file;
  Result<QuantizePlan> plan;

  Planned(const GgufBuilder& b, const QuantizeRequest& request)
      : bytes(b.build()), file(gguf_test::parse(bytes)), plan(plan_quantization(file.value(), request)) {}
  std::string type(const std::string& name) const {
    if (!plan.ok()) return plan.error().message;
    for (const PlannedTensor& tensor : plan->tensors) {
      if (tensor.source->name == name) return std::string(dtype_name(tensor.type)) + (tensor.is_fallback ? "*" : "");
    }
    return "missing";
  }
};

QuantizeRequest request_of(FileType type) {
  QuantizeRequest request;
  request.type = type;
  return request;
}

TensorTypeRule rule(const std::string& text) {
  Result<TensorTypeRule> parsed = parse_tensor_type_rule(text);
  EXPECT_TRUE(parsed.ok()) << text;
  return parsed.ok() ? std::move(parsed).value() : TensorTypeRule{};
}

ImportanceMatrix importance(const std::string& name, size_t n_values) {
  const std::string bytes = le<int32_t>(1) + le(static_cast<int32_t>(name.size())) + name + le<int32_t>(1) +
                            le(static_cast<int32_t>(n_values)) + zeros(4 * n_values);
  Result<ImportanceMatrix> matrix =
      ImportanceMatrix::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "m.dat");
  EXPECT_TRUE(matrix.ok());
  return matrix.ok() ? std::move(matrix).value() : ImportanceMatrix{};
}

TEST(QuantizePlan, MixesTypes) {
  GgufBuilder b = text_header();
  for (const char* name : {"token_embd.weight", "blk.0.attn_v.weight", "blk.1.attn_v.weight", "blk.0.ffn_down.weight",
                           "blk.0.attn_q.weight", "output.weight"})
    add(b, name);
  b.tensor("blk.0.attn_norm.weight", {256}, DType::kF32, zeros(1024));
  b.tensor("blk.0.attn_q.bias", {256}, DType::kF32, zeros(1024));
  const Planned mixed(b, request_of(FileType::kQ4_K_M));
  EXPECT_EQ(mixed.type("token_embd.weight"), "Q4_K");
  EXPECT_EQ(mixed.type("output.weight"), "Q6_K");
  EXPECT_EQ(mixed.type("blk.0.attn_v.weight"), "Q6_K");
  EXPECT_EQ(mixed.type("blk.1.attn_v.weight"), "Q4_K");
  EXPECT_EQ(mixed.type("blk.0.ffn_down.weight"), "Q6_K");
  EXPECT_EQ(mixed.type("blk.0.attn_q.weight"), "Q4_K");
  EXPECT_EQ(mixed.type("blk.0.attn_norm.weight"), "F32");
  EXPECT_EQ(mixed.type("blk.0.attn_q.bias"), "F32");
  EXPECT_EQ(mixed.plan->n_elements, 6 * 512u + 512u);
  EXPECT_EQ(mixed.plan->bytes_before, 6 * 1024u + 2048u);
  EXPECT_EQ(mixed.plan->bytes_after, 3 * 288u + 3 * 420u + 2048u);
}

TEST(QuantizePlan, TiedEmbeddingsAreTheOutput) {
  GgufBuilder b = text_header();
  add(b, "token_embd.weight");
  EXPECT_EQ(Planned(b, request_of(FileType::kQ4_K_M)).type("token_embd.weight"), "Q6_K");
  QuantizeRequest request = request_of(FileType::kQ4_K_M);
  request.output_type = DType::kQ8_0;
  EXPECT_EQ(Planned(b, request).type("token_embd.weight"), "Q8_0");
  request.embedding_type = DType::kQ5_0;
  EXPECT_EQ(Planned(b, request).type("token_embd.weight"), "Q5_0");
  add(b, "output.weight");
  EXPECT_EQ(Planned(b, request).type("output.weight"), "Q8_0");
  request.pure = true;
  EXPECT_EQ(Planned(b, request).type("output.weight"), "Q8_0");
  request.output_type.reset();
  EXPECT_EQ(Planned(b, request).type("output.weight"), "Q4_K");
}

TEST(QuantizePlan, FallsBackWhereRowsAreNoWholeBlocks) {
  GgufBuilder b = text_header();
  add(b, "blk.3.attn_q.weight", 96);
  add(b, "blk.3.attn_k.weight", 100);
  add(b, "blk.3.ffn_up.weight", 512);
  const std::pair<FileType, std::vector<const char*>> cases[] = {
      {FileType::kQ4_K_S, {"Q5_0*", "F16*", "Q4_K"}}, {FileType::kQ5_K_S, {"Q5_1*", "F16*", "Q5_K"}},
      {FileType::kQ6_K, {"Q8_0*", "F16*", "Q6_K"}},   {FileType::kQ2_K, {"Q4_0*", "F16*", "Q2_K"}},
      {FileType::kQ3_K_L, {"Q4_0*", "F16*", "Q3_K"}}, {FileType::kIQ4_XS, {"IQ4_NL*", "F16*", "IQ4_XS"}},
      {FileType::kQ8_0, {"Q8_0", "F16*", "Q8_0"}},    {FileType::kBF16, {"BF16", "BF16", "BF16"}}};
  for (const auto& [type, want] : cases) {
    for (const bool pure : {false, true}) {
      QuantizeRequest request = request_of(type);
      request.pure = pure;
      const Planned planned(b, request);
      EXPECT_EQ(planned.type("blk.3.attn_q.weight"), want[0]);
      EXPECT_EQ(planned.type("blk.3.attn_k.weight"), want[1]);
      EXPECT_EQ(planned.type("blk.3.ffn_up.weight"), want[2]);
    }
  }
}

TEST(QuantizePlan, RulesGoBeforeTheMixture) {
  GgufBuilder b = text_header();
  for (const char* name : {"blk.0.attn_v.weight", "blk.1.attn_v.weight", "blk.1.ffn_up.weight", "output.weight"})
    add(b, name);
  b.tensor("blk.0.attn_norm.weight", {256}, DType::kF32, zeros(1024));
  QuantizeRequest request = request_of(FileType::kQ4_K_M);
  request.output_type = DType::kQ5_1;
  request.rules = {rule("BLK\\.1\\.=q3_k"), rule("attn_v=Q8_0"), rule("output=f16"), rule("nothing=f32"),
                   rule("attn_norm=q8_0")};
  const Planned planned(b, request);
  EXPECT_EQ(planned.type("blk.0.attn_v.weight"), "Q8_0");
  EXPECT_EQ(planned.type("blk.1.attn_v.weight"), "Q3_K");  // the first rule that matches
  EXPECT_EQ(planned.type("blk.1.ffn_up.weight"), "Q3_K");
  EXPECT_EQ(planned.type("output.weight"), "Q5_1");
  EXPECT_EQ(planned.type("blk.0.attn_norm.weight"), "F32");  // norms are never quantised
  EXPECT_THAT(planned.plan->unused_rules, ElementsAre("nothing", "attn_norm"));
}

TEST(QuantizePlan, VisionEncodersCountAsLlamaQuantize) {
  GgufBuilder b;
  b.text("general.architecture", "clip");
  for (int i = 0; i < 12; ++i) {
    const std::string block = "v.blk." + std::to_string(i) + ".";
    add(b, block + "attn_v.weight");
    add(b, block + "ffn_down.weight");
    add(b, block + "ffn_up.weight", 160);
  }
  b.tensor("v.patch_embd.weight", {14, 14, 3, 2}, DType::kF16, zeros(14 * 14 * 3 * 2 * 2));
  b.tensor("v.position_embd.weight", {64, 2}, DType::kF32, zeros(512));
  add(b, "mm.0.weight");
  const Planned planned(b, request_of(FileType::kQ4_K_M));
  std::string finer;
  for (int i = 0; i < 12; ++i) {
    const std::string block = "v.blk." + std::to_string(i) + ".";
    if (planned.type(block + "attn_v.weight") == "Q6_K") finer += std::to_string(i) + " ";
    EXPECT_EQ(planned.type(block + "ffn_down.weight"), "Q6_K");
    EXPECT_EQ(planned.type(block + "ffn_up.weight"), "Q5_0*");
  }
  EXPECT_EQ(finer, "0 4 7 8 9 11 ");  // alphabetically: 0 1 10 11 2 ... 9; seen in llama-quantize's output
  EXPECT_EQ(planned.type("v.patch_embd.weight"), "F16");
  EXPECT_EQ(planned.type("v.position_embd.weight"), "F32");
  EXPECT_EQ(planned.type("mm.0.weight"), "Q4_K");
}

TEST(QuantizePlan, TextModelsOfEightyLayersGetFinerValueMatrices) {
  for (const char* architecture : {"qwen2", "qwen2vl"}) {
    GgufBuilder b = text_header(architecture, 80, 64, 8);
    add(b, "blk.40.attn_v.weight");
    EXPECT_EQ(Planned(b, request_of(FileType::kQ3_K_S)).type("blk.40.attn_v.weight"),
              std::string(architecture) == "qwen2" ? "Q5_K" : "Q3_K");
  }
}

TEST(QuantizePlan, RefusesToQuantiseTwice) {
  GgufBuilder b = text_header();
  add(b, "blk.0.attn_q.weight", 256, DType::kQ8_0);
  QuantizeRequest request = request_of(FileType::kQ4_K_M);
  EXPECT_TRUE(fails(Planned(b, request).plan, ErrorCode::kInvalidArgument, "--allow-requantize"));
  EXPECT_EQ(Planned(b, request_of(FileType::kQ8_0)).type("blk.0.attn_q.weight"), "Q8_0");  // copied
  request.allow_requantize = true;
  EXPECT_EQ(Planned(b, request).type("blk.0.attn_q.weight"), "Q4_K");
}

TEST(QuantizePlan, TypesThatCannotBeReadAreCopiedOrRefused) {
  GgufBuilder b = text_header();
  b.tensor("blk.0.attn_q.weight", {256, 2}, DType::kNVFP4, zeros(288));
  QuantizeRequest request = request_of(FileType::kQ4_K_M);
  request.allow_requantize = true;
  EXPECT_TRUE(fails(Planned(b, request).plan, ErrorCode::kUnsupported, "nvfp4"));
  GgufBuilder other = text_header();
  other.tensor("rope_table", {4, 2}, DType::kI32, zeros(32));
  EXPECT_EQ(Planned(other, request).type("rope_table"), "I32");
}

TEST(QuantizePlan, ImportanceMustFit) {
  GgufBuilder b = text_header();
  add(b, "token_embd.weight");
  add(b, "blk.0.attn_q.weight");
  QuantizeRequest request = request_of(FileType::kQ4_0);
  const ImportanceMatrix fits = importance("blk.0.attn_q.weight", 256);
  request.importance = &fits;
  const Planned planned(b, request);
  ASSERT_TRUE(planned.plan.ok()) << planned.plan.error().message;
  EXPECT_TRUE(planned.plan->tensors[0].lacks_importance);
  EXPECT_FALSE(planned.plan->tensors[1].lacks_importance);
  EXPECT_EQ(planned.plan->tensors[1].importance.size(), 256u);

  const ImportanceMatrix other = importance("blk.0.attn_q.weight", 512);
  request.importance = &other;
  EXPECT_TRUE(fails(Planned(b, request).plan, ErrorCode::kMismatch, "want 256 importance values"));
  request.type = FileType::kQ8_0;  // has no use for it
  EXPECT_EQ(Planned(b, request).type("blk.0.attn_q.weight"), "Q8_0");
  const ImportanceMatrix tokens = importance("token_embd.weight", 2);
  request = request_of(FileType::kQ4_0);
  request.importance = &tokens;
  EXPECT_TRUE(Planned(b, request).plan.ok());
}

TEST(QuantizePlan, ExpertsHaveTheirOwnImportance) {
  GgufBuilder b = text_header();
  b.tensor("blk.0.ffn_up_exps.weight", {32, 2, 3}, DType::kF16, zeros(32 * 6 * 2));
  QuantizeRequest request = request_of(FileType::kQ4_0);
  const ImportanceMatrix fits = importance("blk.0.ffn_up_exps.weight", 96);
  request.importance = &fits;
  const Planned planned(b, request);
  ASSERT_TRUE(planned.plan.ok()) << planned.plan.error().message;
  EXPECT_EQ(planned.plan->tensors[0].importance.size(), 96u);
}

TEST(QuantizePlan, TwoBitsAloneNeedImportance) {
  GgufBuilder b = text_header();
  add(b, "blk.3.attn_q.weight");
  EXPECT_TRUE(fails(Planned(b, request_of(FileType::kQ2_K_S)).plan, ErrorCode::kInvalidArgument, "--imatrix"));
  QuantizeRequest request = request_of(FileType::kQ2_K_S);
  const ImportanceMatrix other = importance("blk.0.attn_v.weight", 256);
  request.importance = &other;
  EXPECT_TRUE(fails(Planned(b, request).plan, ErrorCode::kInvalidArgument, "no entry for 'blk.3.attn_q.weight'"));
  EXPECT_EQ(Planned(b, request_of(FileType::kQ2_K)).type("blk.3.attn_q.weight"), "Q2_K");
}

TEST(QuantizePlan, UnknownModelsAndTypesAreRefused) {
  GgufBuilder llama = text_header("llama");
  EXPECT_TRUE(fails(Planned(llama, request_of(FileType::kQ4_0)).plan, ErrorCode::kUnsupported, "'llama'"));
  GgufBuilder none;
  EXPECT_TRUE(fails(Planned(none, request_of(FileType::kQ4_0)).plan, ErrorCode::kNotFound, "general.architecture"));
  GgufBuilder bare;
  bare.text("general.architecture", "qwen2vl");
  EXPECT_TRUE(fails(Planned(bare, request_of(FileType::kQ4_0)).plan, ErrorCode::kNotFound, "block_count"));
  EXPECT_TRUE(fails(Planned(text_header(), request_of(FileType::kIQ2_XXS)).plan, ErrorCode::kUnsupported, "IQ2_XXS"));
}

TEST(QuantizePlan, RulesThatAreNone) {
  for (const char* text :
       {"", "=q8_0", "attn_v", "attn_v=", "attn_v=q9_9", "attn_v=iq2_xxs", "attn_v=q8_1", "(=q8_0", "[=q8_0"}) {
    EXPECT_TRUE(fails(parse_tensor_type_rule(text), ErrorCode::kInvalidArgument, "")) << text;
  }
  EXPECT_TRUE(fails(parse_tensor_type("i32"), ErrorCode::kInvalidArgument, "Q4_K"));
  EXPECT_EQ(rule("a=b=q4_K").pattern, "a=b");
}

}  // namespace
}  // namespace glimpse
