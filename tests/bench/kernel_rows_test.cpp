// The kernel benchmarks: every kernel has rows, and every row does what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "bench/kernels/kernel_row.h"
#include "kernels/attention/attention.h"
#include "kernels/matmul/matmul.h"

namespace glimpse::bench {
namespace {

TEST(KernelRows, EveryListedKernelHasOne) {
  std::set<std::string> kernels;
  for (const KernelRow& row : kernel_rows()) kernels.insert(row.kernel);
  for (const PanelKernel& kernel : panel_kernels()) EXPECT_TRUE(kernels.contains(kernel.name)) << kernel.name;
  for (const AttentionKernel& kernel : attention_kernels()) EXPECT_TRUE(kernels.contains(kernel.name)) << kernel.name;
  // The others, by a sample of each kind.
  for (const char* name : {"rms_norm_avx512", "layer_norm_ref", "rope_head_avx2", "swiglu_avx512", "quick_gelu_ref",
                           "gelu_erf_avx2", "gelu_tanh_ref", "silu_avx2", "add_avx512", "quantize_act_int8x128k_avx2",
                           "store_keys_bf16_avx512", "store_values_f32_ref", "quantize_row_q4_k_ref",
                           "dequantize_row_iq4_xs_ref", "dequantize_panel_row_q6_k_ref"}) {
    EXPECT_TRUE(kernels.contains(name)) << name;
  }
}

TEST(KernelRows, AreNamedOnceAndByTheLayersOfTheModels) {
  std::set<std::string> names;
  for (const KernelRow& row : kernel_rows()) {
    EXPECT_TRUE(names.insert(row.name()).second) << row.name();
    EXPECT_EQ(row.name().find(' '), std::string::npos) << row.name();
    EXPECT_GT(row.bytes, 0) << row.name();
    const std::string suffix = std::string("_") + isa_name(row.isa);
    EXPECT_TRUE(row.kernel.ends_with(suffix)) << row.name();
  }
  for (const char* name :
       {"matmul_q4_k_int8x128k_avx512vnni/2b/gate_up_17920x1536/n:1",
        "matmul_q4_k_int8x128k_avx2/7b/down_3584x18944/n:1024",
        "matmul_bf16_bf16_avx512bf16/vit/patch_1280x588/n:16384",
        "matmul_q8_0_int8x32_avx512vnni/merger/mm2_2b_1536x5120/n:4096",
        "matmul_q4_k_int8x128k_avx2/vl25_3b/down_2048x11008/n:1", "matmul_f16_f32_avx2/vl25_vit/down_1280x3420/n:1024",
        "matmul_q4_k_int8x128k_avx2/vl3_30b/expert_down_2048x768/n:1",
        "matmul_q8_0_int8x32_avx512vnni/vl3_vit_l/mm2_8b_4096x4608/n:1024",
        "attention_bf16_avx512bf16/2b/decode1/hd:128/heads:2/rows:6/keys:32768"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  EXPECT_FALSE(names.contains("matmul_q4_k_int8x128k_avx2/vit/patch_1280x588/n:256"));  // 588 is no whole block
  EXPECT_FALSE(names.contains("matmul_q8_0_int8x32_avx2/vl3_vit_l/down_1152x4304/n:1024"));
}

TEST(KernelRows, CountTheirWork) {
  for (const KernelRow& row : kernel_rows()) {
    if (row.name() != "matmul_q4_0_int8x32_avx2/2b/o_1536x1536/n:2") continue;
    EXPECT_DOUBLE_EQ(row.flop, 2.0 * 1536 * 1536 * 2);
    EXPECT_GT(row.bytes, 1536.0 * 1536 / 32 * 18 + 2 * 1536 * 5);  // weights, int8 and results
    EXPECT_LT(row.bytes, 1536.0 * 1536 / 32 * 18 + 2 * 1536 * 6);
    EXPECT_EQ(row.arithmetic, Arithmetic::kInt8Avx2);
    Roofline roofline;
    roofline.n_threads = 1;
    roofline.bytes_per_second = row.bytes;  // one second
    EXPECT_DOUBLE_EQ(floor_seconds(row, roofline), 1);
    roofline.flop_per_second[static_cast<size_t>(Arithmetic::kInt8Avx2)] = row.flop / 3;
    EXPECT_DOUBLE_EQ(floor_seconds(row, roofline), 3);
    return;
  }
  FAIL() << "the row is missing";
}

TEST(KernelRows, TheSmallestAreOneForEachKernel) {
  const std::vector<KernelRow> rows = kernel_rows(), smallest = smallest_rows(rows);
  std::set<std::string> kernels, chosen;
  for (const KernelRow& row : rows) kernels.insert(row.kernel);
  for (const KernelRow& row : smallest) chosen.insert(row.kernel);
  EXPECT_EQ(chosen, kernels);
  EXPECT_EQ(smallest.size(), kernels.size());
}

class SmallestRow : public testing::TestWithParam<KernelRow> {};

TEST_P(SmallestRow, RunsAndAgreesWithTheReference) {
  const KernelRow& row = GetParam();
  if (!detect_isa().has(row.isa)) GTEST_SKIP() << "this CPU lacks " << isa_name(row.isa);
  const auto prepared = row.prepare(3 << 20);  // several copies of the smallest
  ASSERT_TRUE(prepared.ok()) << prepared.error().message;
  for (int i = 0; i < 3; ++i) prepared.value()->run();
  const double nmse = prepared.value()->nmse();
  if (row.kernel.starts_with("quantize_row")) {
    EXPECT_LT(nmse, 0.2);  // the format's own error: 2 bits keep little
  } else if (row.kernel.starts_with("matmul") && !row.kernel.ends_with("avx512bf16") && row.isa != Isa::kRef &&
             row.kernel.find("int8") != std::string::npos) {
    EXPECT_EQ(nmse, 0);  // integer kernels agree to the bit
  } else {
    EXPECT_LT(nmse, 1e-5);  // two numbers of 8 bits, each rounded: (2^-9)^2 / 3 * 2
  }
}

std::string test_name(const testing::TestParamInfo<KernelRow>& info) {
  return info.param.kernel;
}
INSTANTIATE_TEST_SUITE_P(Kernels, SmallestRow, testing::ValuesIn(smallest_rows(kernel_rows())), test_name);

}  // namespace
}  // namespace glimpse::bench
