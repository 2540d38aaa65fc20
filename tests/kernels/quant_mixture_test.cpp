#include <gtest/gtest.h>

#include <array>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/quant/mixture.h"
#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

constexpr MixtureModel kQwen2Vl2B{28, 12, 2, true, false};
constexpr MixtureModel kQwen2Vl7B{28, 28, 4, false, false};
constexpr MixtureModel kQwen3Vl2B{28, 16, 8, true, false};  // 2 heads per k/v head

std::string type_name(FileType type, const MixtureModel& model, const std::string& name, std::vector<uint64_t> dims,
                      DType source = DType::kF32) {
  return dtype_name(mixture_dtype(type, model, {name, dims, source}));
}

std::vector<int> finer_layers(int n_layers) {
  std::vector<int> layers;
  for (int i = 0; i < n_layers; ++i) {
    if (use_more_bits(i, n_layers)) layers.push_back(i);
  }
  return layers;
}

TEST(Mixture, MoreBitsGoToTheLayersOfLlamaCpp) {
  EXPECT_EQ(finer_layers(28), (std::vector<int>{0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27}));
  EXPECT_EQ(finer_layers(36), (std::vector<int>{0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31, 32, 33, 34, 35}));
  std::vector<int> want80;
  for (int i = 0; i < 10; ++i) want80.push_back(i);
  for (int i = 12; i <= 69; i += 3) want80.push_back(i);
  for (int i = 70; i < 80; ++i) want80.push_back(i);
  EXPECT_EQ(finer_layers(80), want80);
}

TEST(Mixture, AGivenLayerGoesBeforeTheName) {
  const std::vector<uint64_t> dims = {256, 256};
  MixtureTensor tensor{"blk.1.attn_v.weight", dims, DType::kF16};
  EXPECT_EQ(mixture_dtype(FileType::kQ4_K_S, kQwen2Vl2B, tensor), DType::kQ5_K);
  tensor.layer = 4;
  EXPECT_EQ(mixture_dtype(FileType::kQ4_K_S, kQwen2Vl2B, tensor), DType::kQ4_K);
}

TEST(Mixture, NamesIdsAndAliasesOfFileTypes) {
  EXPECT_EQ(file_type_from_name("Q4_K_M"), FileType::kQ4_K_M);
  EXPECT_EQ(file_type_from_name("q4_k_m"), FileType::kQ4_K_M);
  EXPECT_EQ(file_type_from_name("q4_k"), FileType::kQ4_K_M);
  EXPECT_EQ(file_type_from_name("Q3_K"), FileType::kQ3_K_M);
  EXPECT_EQ(file_type_from_name("q5_K"), FileType::kQ5_K_M);
  EXPECT_EQ(file_type_from_name("bf16"), FileType::kBF16);
  EXPECT_EQ(file_type_from_name("Q4_K_"), std::nullopt);
  EXPECT_EQ(file_type_from_name(""), std::nullopt);
  EXPECT_STREQ(file_type_name(15), "Q4_K_M");
  EXPECT_STREQ(file_type_name(15 + 1024), "Q4_K_M");
  EXPECT_STREQ(file_type_name(38), "MXFP4_MOE");
  for (const uint32_t unknown : {4u, 5u, 6u, 33u, 34u, 35u, 42u, 1028u, 0xffffffffu}) {
    EXPECT_EQ(file_type_name(unknown), nullptr) << unknown;
  }
  int n_named = 0;
  for (uint32_t id = 0; id < 64; ++id) {
    if (file_type_name(id) == nullptr) continue;
    ++n_named;
    const auto type = file_type_from_name(file_type_name(id));
    ASSERT_TRUE(type.has_value());
    EXPECT_EQ(static_cast<uint32_t>(*type), id);
    const auto base = file_type_base(*type);
    EXPECT_TRUE(!base || is_weight_type(*base)) << file_type_name(id);
  }
  EXPECT_EQ(n_named, 36);
  EXPECT_EQ(file_type_base(FileType::kIQ2_XS), std::nullopt);
  EXPECT_EQ(file_type_base(FileType::kMXFP4_MoE), std::nullopt);
}

TEST(Mixture, NormsBiasesAndEmbeddingsOfPatchesStayAsTheyAre) {
  const auto kept = [](const std::string& name, std::vector<uint64_t> dims) {
    return type_name(FileType::kQ4_K_M, kQwen2Vl2B, name, std::move(dims), DType::kBF16) == "BF16";
  };
  EXPECT_TRUE(kept("blk.0.attn_norm.weight", {1536}));
  EXPECT_TRUE(kept("blk.0.attn_norm.weight", {1536, 2}));
  EXPECT_TRUE(kept("blk.0.attn_q.bias", {1536}));
  EXPECT_TRUE(kept("v.blk.0.ln1.weight", {1280}));
  EXPECT_TRUE(kept("v.blk.0.ln1.weight", {1280, 1, 1, 1}));
  EXPECT_TRUE(kept("v.patch_embd.weight", {14, 14, 3, 1280}));
  EXPECT_TRUE(kept("v.patch_embd.weight.1", {14, 14, 3, 1280}));
  EXPECT_TRUE(kept("v.position_embd.weight", {1152, 2304}));
  EXPECT_TRUE(kept("mm.patch_merger.weight", {1024, 1024}));
  EXPECT_TRUE(kept("blk.3.ffn_gate_inp.weight", {2048, 64}));
  EXPECT_TRUE(kept("blk.3.table", {2048, 64}));
  EXPECT_FALSE(kept("mm.0.weight", {5120, 5120}));
  EXPECT_FALSE(kept("v.blk.0.attn_qkv.weight", {1280, 3840}));
  EXPECT_FALSE(kept("blk.0.attn_q.weight", {1536, 1536}));
}

// One row of the table of mixtures: the type of each kind of tensor.
struct TableRow {
  const char* tensor;
  const char* types;  // one word a column
};

constexpr std::array kColumns = {
    FileType::kQ4_0,   FileType::kQ4_1,   FileType::kQ5_0,   FileType::kQ5_1, FileType::kQ8_0,   FileType::kQ4_K_S,
    FileType::kQ4_K_M, FileType::kQ5_K_S, FileType::kQ5_K_M, FileType::kQ6_K, FileType::kIQ4_XS, FileType::kIQ4_NL,
    FileType::kQ3_K_S, FileType::kQ3_K_M, FileType::kQ3_K_L, FileType::kQ2_K,
};

void expect_table(const MixtureModel& model, const std::vector<TableRow>& rows) {
  for (const TableRow& row : rows) {
    const bool down = std::string(row.tensor).find("ffn_down") != std::string::npos;
    std::istringstream types(row.types);
    std::string want;
    for (size_t c = 0; c < kColumns.size(); ++c) {
      ASSERT_TRUE(types >> want);
      EXPECT_EQ(type_name(kColumns[c], model, row.tensor, {down ? 8960u : 1536u, 1536}), want)
          << row.tensor << " in " << file_type_name(static_cast<uint32_t>(kColumns[c]));
    }
  }
}

// L = 28: L / 8 = 3, L / 16 = 1. Layer 3 is in no upgraded range, layer 5 has more bits.
TEST(Mixture, TableOfQwen2Vl2BWithTiedEmbeddings) {
  expect_table(
      kQwen2Vl2B,
      {
          {"token_embd.weight", "Q6_K Q6_K Q6_K Q6_K Q8_0 Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K"},
          {"blk.0.attn_q.weight",
           "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K IQ4_XS IQ4_NL Q3_K Q3_K Q3_K Q2_K"},
          {"blk.0.attn_k.weight",
           "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K IQ4_XS IQ4_NL Q3_K Q3_K Q3_K Q2_K"},
          {"blk.0.ffn_gate.weight",
           "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K IQ4_XS IQ4_NL Q3_K Q3_K Q3_K Q2_K"},
          {"blk.0.ffn_up.weight",
           "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K IQ4_XS IQ4_NL Q3_K Q3_K Q3_K Q2_K"},
          {"blk.1.attn_v.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q5_K Q6_K Q5_K Q6_K Q6_K Q5_K Q5_K Q3_K Q5_K Q5_K Q4_K"},
          {"blk.3.attn_v.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q5_K Q4_K Q5_K Q5_K Q6_K Q5_K Q5_K Q3_K Q4_K Q5_K Q4_K"},
          {"blk.5.attn_v.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q6_K Q5_K Q6_K Q6_K Q5_K Q5_K Q3_K Q4_K Q5_K Q4_K"},
          {"blk.5.attn_qkv.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q6_K Q5_K Q6_K Q6_K Q5_K Q5_K Q3_K Q4_K Q5_K Q4_K"},
          {"blk.0.attn_output.weight",
           "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K IQ4_XS IQ4_NL Q3_K Q4_K Q5_K Q3_K"},
          {"blk.0.ffn_down.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q5_K Q6_K Q5_K Q6_K Q6_K Q5_K Q5_K Q3_K Q5_K Q5_K Q3_K"},
          {"blk.2.ffn_down.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q5_K Q6_K Q5_K Q6_K Q6_K Q5_K Q5_K Q3_K Q4_K Q5_K Q3_K"},
          {"blk.3.ffn_down.weight",
           "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K IQ4_XS IQ4_NL Q3_K Q4_K Q5_K Q3_K"},
          {"blk.27.ffn_down.weight",
           "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q6_K Q5_K Q6_K Q6_K IQ4_XS IQ4_NL Q3_K Q4_K Q5_K Q3_K"},
      });
}

TEST(Mixture, TableOfQwen2Vl7BWithOutputWeight) {
  expect_table(
      kQwen2Vl7B,
      {
          {"output.weight", "Q6_K Q6_K Q6_K Q6_K Q8_0 Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K Q6_K"},
          {"token_embd.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K IQ4_XS IQ4_NL Q3_K Q3_K Q3_K Q2_K"},
          {"blk.13.attn_v.weight", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q4_K Q5_K Q5_K Q6_K Q5_K Q5_K Q3_K Q4_K Q5_K Q4_K"},
      });
}

TEST(Mixture, FewHeadsPerValueHeadGetNoUpgrade) {
  for (const auto& [type, want] : {std::pair{FileType::kIQ4_XS, "IQ4_XS"}, std::pair{FileType::kIQ4_NL, "IQ4_NL"},
                                   std::pair{FileType::kQ2_K, "Q3_K"}, std::pair{FileType::kQ2_K_S, "Q2_K"}}) {
    EXPECT_EQ(type_name(type, kQwen3Vl2B, "blk.9.attn_v.weight", {2048, 1024}), want);
  }
  EXPECT_EQ(type_name(FileType::kQ2_K_S, kQwen2Vl2B, "blk.9.attn_v.weight", {1536, 256}), "Q4_K");
  EXPECT_EQ(type_name(FileType::kQ2_K_S, kQwen2Vl2B, "blk.2.ffn_down.weight", {8960, 1536}), "Q4_K");
  EXPECT_EQ(type_name(FileType::kQ2_K_S, kQwen2Vl2B, "blk.3.ffn_down.weight", {8960, 1536}), "Q2_K");
}

TEST(Mixture, ImportanceChangesTheFirstFfnDowns) {
  MixtureModel model = kQwen2Vl2B;
  model.has_importance = true;
  const auto down = [&](FileType type, int layer) {
    return type_name(type, model, "blk." + std::to_string(layer) + ".ffn_down.weight", {8960, 1536});
  };
  EXPECT_EQ(down(FileType::kQ4_0, 2), "Q4_1");
  EXPECT_EQ(down(FileType::kQ4_0, 3), "Q4_0");
  EXPECT_EQ(down(FileType::kQ5_0, 2), "Q5_1");
  EXPECT_EQ(down(FileType::kQ5_0, 3), "Q5_0");
  EXPECT_EQ(down(FileType::kQ5_1, 2), "Q5_1");
  EXPECT_EQ(down(FileType::kIQ4_XS, 2), "IQ4_XS");
  EXPECT_EQ(down(FileType::kQ4_K_S, 2), "Q5_K");
}

TEST(Mixture, RowsThatDoNotDivideFallBack) {
  // Qwen2.5-VL and Qwen3-VL-8B vision: 3420 and 4304 are multiples of neither 256 nor 32; 1152 of 32 only.
  for (const uint64_t row : {3420u, 4304u}) {
    for (const FileType type : kColumns) {
      EXPECT_EQ(type_name(type, {32, 16, 16, false, false}, "v.blk.0.ffn_down.weight", {row, 1280}), "F16")
          << row << " in " << file_type_name(static_cast<uint32_t>(type));
    }
  }
  const std::pair<DType, DType> fallbacks[] = {
      {DType::kQ2_K, DType::kQ4_0}, {DType::kQ3_K, DType::kQ4_0},     {DType::kQ4_K, DType::kQ5_0},
      {DType::kQ5_K, DType::kQ5_1}, {DType::kQ6_K, DType::kQ8_0},     {DType::kIQ4_XS, DType::kIQ4_NL},
      {DType::kQ8_0, DType::kQ8_0}, {DType::kIQ4_NL, DType::kIQ4_NL}, {DType::kF16, DType::kF16},
  };
  for (const auto& [from, to] : fallbacks) {
    EXPECT_EQ(fallback_dtype(from, 1152), to) << dtype_name(from);
    EXPECT_EQ(fallback_dtype(from, 1536), from) << dtype_name(from);
    EXPECT_EQ(fallback_dtype(from, 3420), DType::kF16) << dtype_name(from);
  }
  EXPECT_EQ(fallback_dtype(DType::kF32, 3420), DType::kF32);
  EXPECT_EQ(fallback_dtype(DType::kBF16, 3420), DType::kBF16);
  EXPECT_EQ(type_name(FileType::kQ4_K_M, kQwen3Vl2B, "v.blk.3.attn_out.weight", {1152, 1152}), "Q5_0");
  EXPECT_EQ(type_name(FileType::kQ4_K_M, {27, 16, 16, false, false}, "v.blk.26.attn_qkv.weight", {1152, 3456}), "Q8_0");
  // The output falls back to Q8_0, then to F16.
  EXPECT_EQ(type_name(FileType::kQ4_K_M, kQwen2Vl7B, "output.weight", {1152, 1000}), "Q8_0");
  EXPECT_EQ(type_name(FileType::kQ4_0, kQwen2Vl7B, "output.weight", {1152, 1000}), "Q8_0");
  EXPECT_EQ(type_name(FileType::kQ4_K_M, kQwen2Vl7B, "output.weight", {100, 1000}), "F16");
}

TEST(Mixture, FloatFilesHaveNoMixture) {
  EXPECT_EQ(type_name(FileType::kF16, kQwen2Vl2B, "token_embd.weight", {1536, 1000}), "F16");
  EXPECT_EQ(type_name(FileType::kBF16, kQwen2Vl2B, "blk.0.ffn_down.weight", {3420, 10}), "BF16");
  EXPECT_EQ(type_name(FileType::kF32, kQwen2Vl2B, "blk.0.attn_v.weight", {1536, 256}), "F32");
  EXPECT_EQ(type_name(FileType::kIQ2_XS, kQwen2Vl2B, "blk.0.attn_v.weight", {1536, 256}, DType::kF16), "F16");
}

TEST(Mixture, ConvertedFilesKeepSmallTensorsInFloat) {
  const auto converted = [](FileType type, const std::string& name, std::vector<uint64_t> dims) {
    return std::string(dtype_name(converted_dtype(type, name, dims)));
  };
  EXPECT_EQ(converted(FileType::kF16, "blk.0.attn_norm.weight", {1536}), "F32");
  EXPECT_EQ(converted(FileType::kF16, "blk.0.attn_q.bias", {1536}), "F32");
  EXPECT_EQ(converted(FileType::kF16, "v.patch_embd.weight", {14, 14, 3, 1280}), "F16");
  EXPECT_EQ(converted(FileType::kF16, "v.patch_embd.weight.1", {14, 14, 3, 1280}), "F16");
  EXPECT_EQ(converted(FileType::kBF16, "v.patch_embd.weight", {14, 14, 3, 1280}), "F32");
  EXPECT_EQ(converted(FileType::kQ8_0, "v.patch_embd.weight.1", {14, 14, 3, 1280}), "F32");
  EXPECT_EQ(converted(FileType::kF16, "v.position_embd.weight", {1152, 2304}), "F32");
  EXPECT_EQ(converted(FileType::kBF16, "mm.0.weight", {5120, 5120}), "BF16");
  EXPECT_EQ(converted(FileType::kQ8_0, "mm.0.weight", {5120, 5120}), "Q8_0");
  EXPECT_EQ(converted(FileType::kQ8_0, "v.blk.0.ffn_down.weight", {3420, 1280}), "F16");
  EXPECT_EQ(converted(FileType::kF32, "mm.0.weight", {5120, 5120}), "F32");
}

}  // namespace
}  // namespace glimpse
