// What gpu_bench measures, on the host executor at small shapes: that each kernel is launched with what it needs, that
// lines and rows say what was measured, that results are compared, and that nothing goes wrong quietly. No times.
#include "bench/gpu_kernel_bench.h"

#include <gtest/gtest.h>

#include "engine/runtime/cuda/host_device.h"

namespace glimpse::cuda {
namespace {

struct Measured {
  std::vector<nlohmann::json> lines;
  std::vector<std::string> rows;
  KernelBench bench;

  explicit Measured(HostDeviceOptions device = {}, uint64_t n_floats = 1 << 20)
      : bench(make_host_device(device),
              {.pool_bytes = 2 << 20, .n_floats = n_floats, .fewest = 1, .most = 2, .batches = 2},
              {4000, 900, [this](const std::string& line) { lines.push_back(nlohmann::json::parse(line)); },
               [this](const std::string& row) { rows.push_back(row); }}) {}
  void expect_last(const char* kind, const char* name, int64_t n) const {
    ASSERT_FALSE(lines.empty());
    const nlohmann::json& last = lines.back();
    EXPECT_EQ(last["kind"], kind);
    EXPECT_EQ(last["name"], name);
    EXPECT_EQ(last["n"], n);
    for (const char* figure : {"median_us", "min_us", "gb_s", "tflop_s", "of_roofline"}) {
      EXPECT_GT(last[figure].get<double>(), 0) << figure;
    }
    EXPECT_EQ(lines.size(), rows.size());
    EXPECT_EQ(rows.back().rfind(kind, 0), 0u) << rows.back();
    EXPECT_NE(rows.back().find("% of roofline"), std::string::npos) << rows.back();
  }
};

TEST(GpuKernelBench, ProductsOfFewRows) {
  Measured m;
  for (const Format format : {Format::kQ4_K, Format::kQ6_K, Format::kQ8_0}) {
    m.bench.linear("few", format, 48, 512, 1);
    m.expect_last("linear", "few", 1);
  }
  EXPECT_EQ(m.lines[0]["type"], "Q4_K");
  m.bench.linear("some", Format::kQ4_K, 48, 256, 4);
  m.expect_last("linear", "some", 4);
  for (const bool recorded : {false, true}) {
    m.bench.token("a token", {2, 256, 64, 512, 48}, recorded);
    m.expect_last("token", "a token", 1);
  }
}

TEST(GpuKernelBench, ProductsOfManyRowsAreComparedWithOtherDevices) {
  Measured m({.warpgroups = true});
  m.bench.linear("many", Format::kQ4_K, 64, 256, 20);
  m.expect_last("linear", "many", 20);
  for (const int columns : {64, 128}) {
    m.bench.linear("many", Format::kQ4_K, 64, 256, 20, columns);
    ASSERT_EQ(m.lines.back()["kind"], "same");
    EXPECT_EQ(m.lines.back()["nmse"], 0.0) << "the executor gives the same bits";
    EXPECT_EQ(m.lines.back()["of"], "linear_" + std::to_string(columns));
    EXPECT_NE(m.rows.back().find("as other devices' kernel"), std::string::npos);
  }
  // Three groups of rows and a block without any; the bits are those of blocks alone.
  m.bench.linear("many", Format::kQ4_K, 264, 256, 20, 128, 2);
  EXPECT_EQ(m.lines.back()["of"], "linear_128x2");
  EXPECT_EQ(m.lines[m.lines.size() - 2]["as"], "blocks alone");
  EXPECT_EQ(m.lines[m.lines.size() - 2]["same"], true);
  // A long reduction, whose chunks are shared out.
  m.bench.linear("long", Format::kQ4_K, 32, 25 * 256, 9, 64);
  EXPECT_LT(m.lines.back()["nmse"].get<double>(), 1e-10);
  EXPECT_TRUE(m.bench.different().empty());
}

TEST(GpuKernelBench, AttentionOfStepsAndOfManyRows) {
  Measured m({.warpgroups = true});
  for (const CacheType type : {CacheType::kBf16, CacheType::kQ8_0}) {
    for (const int64_t keys : {100, 300}) {
      m.bench.attention({"a step", 4, 2, 32, 1, keys, type});
      m.expect_last("attention", "a step", 1);
    }
  }
  for (const bool causal : {false, true}) {
    m.bench.attention({"rows", 2, 1, 64, 40, 70, CacheType::kF16, causal});
    m.expect_last("attention", "rows", 40);
    m.bench.attention({"rows", 2, 1, 64, 40, 70, CacheType::kF16, causal}, true);
    ASSERT_EQ(m.lines.back()["kind"], "same");
    EXPECT_EQ(m.lines.back()["same"], true) << m.rows.back();
  }
}

TEST(GpuKernelBench, WhatDiffersIsNotTakenForTheSame) {
  const std::vector<float> want = {1, -2, 3, 0};
  EXPECT_EQ(nmse_of(want, want), 0);
  EXPECT_NEAR(nmse_of(std::vector<float>{1, -2, 3, 1}, want), 1.0 / 14, 1e-9);
  const std::vector<float> zero(4), bad = {1, NAN, 3, 0};
  EXPECT_FALSE(nmse_of(zero, zero) < 1e-6) << "nobody has written anything";
  EXPECT_FALSE(nmse_of(bad, want) < 1e-6);
  EXPECT_FALSE(nmse_of(want, bad) < 1e-6);
  EXPECT_FALSE(nmse_of(zero, want) < 1e-6);
}

TEST(GpuKernelBench, ErrorsEndTheProgram) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(Measured({.max_shared_bytes = 100}).bench.linear("few", Format::kQ4_K, 48, 256, 1),
              ::testing::ExitedWithCode(1),
              "gpu_bench: gemv_q4_k_1: [0-9]+ bytes of shared memory, the device has 100");
  EXPECT_EXIT(Measured({.memory_bytes = 1 << 20}), ::testing::ExitedWithCode(1), "gpu_bench: weights to rotate over: ");
  EXPECT_EXIT(Measured().bench.linear("large", Format::kQ4_K, 4096, 1024, 1024), ::testing::ExitedWithCode(1),
              "gpu_bench: [0-9]+ values in and [0-9]+ out do not fit into 1048576");
}

}  // namespace
}  // namespace glimpse::cuda
