// Rows of floats on their way into panels.
#include "kernels/matmul/weight_row.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/quant/quant.h"
#include "tests/kernels/panel_test_util.h"

namespace glimpse::test {
namespace {

std::vector<std::byte> convert(Isa isa, PanelFormat format, const std::vector<float>& x) {
  const auto cols = static_cast<int64_t>(x.size());
  std::vector<std::byte> row(panel_row_bytes(format, cols), std::byte{0x5a});
  AlignedBuffer scratch = allocate(float_row_scratch_bytes(format, cols));
  float_row(isa, format, x.data(), cols, row.data(), scratch.data());
  return row;
}

std::vector<float> gaussian_row(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = gauss(random) / 50;
  return x;
}

TEST(WeightRow, GivesTheSameBitsOnEveryIsa) {
  for (const PanelFormat format : {PanelFormat::kF32, PanelFormat::kBF16, PanelFormat::kI8x32}) {
    for (const int64_t n : {1, 127, 128, 129, 588, 1280}) {
      const std::vector<float> x = gaussian_row(n, static_cast<uint32_t>(n));
      const std::vector<std::byte> want = convert(Isa::kRef, format, x);
      for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
        if (!detect_isa().has(isa)) continue;
        EXPECT_EQ(convert(isa, format, x), want) << isa_name(isa) << " " << n;
      }
    }
  }
}

TEST(WeightRow, Bf16IsWhatTheReferenceQuantiserWrites) {
  const std::vector<float> x = gaussian_row(1280, 1);
  std::vector<std::byte> want(2 * x.size());
  quantize_row_ref(DType::kBF16, x.data(), want.data(), static_cast<int64_t>(x.size()), nullptr);
  EXPECT_EQ(convert(Isa::kRef, PanelFormat::kBF16, x), want);
}

TEST(WeightRow, Int8IsMixedWithAScalePer32ColumnsAndIsOffByHalfAStepAtMost) {
  std::vector<float> x = gaussian_row(588, 2);
  x[300] = 5;  // an outlier costs its own block its precision, and no other
  const std::vector<float> back = weights_of(PanelFormat::kI8x32, convert(detect_isa(), PanelFormat::kI8x32, x).data(),
                                             static_cast<int64_t>(x.size()));
  for (size_t first = 0; first < x.size(); first += 32) {
    const size_t end = std::min<size_t>(first + 32, x.size());
    float block[32] = {};
    std::copy(x.begin() + first, x.begin() + end, block);
    mix_block(block);  // of length 1 / sqrt(2)
    float largest = 0, error = 0;
    for (const float v : block) largest = std::max(largest, std::abs(v));
    EXPECT_EQ(largest > 0.2f, first == 288);
    for (size_t i = first; i < end; ++i) error += (back[i] - x[i]) * (back[i] - x[i]);
    const float half_step = largest / 127 * 0.50001f;
    EXPECT_LE(error, 2 * 32 * half_step * half_step) << first;
    EXPECT_GT(error, 0) << first;
  }
}

TEST(DequantizeRow, EveryIsaReadsEveryFiniteHalfAsTheReferenceDoes) {
  std::vector<uint16_t> halves;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00) != 0x7c00) halves.push_back(static_cast<uint16_t>(bits));
  }
  halves.resize(halves.size() - 3);  // a tail
  const auto n = static_cast<int64_t>(halves.size());
  std::vector<float> got(halves.size()), want(halves.size());
  const auto* bytes = reinterpret_cast<const std::byte*>(halves.data());
  dequantize_row_ref(DType::kF16, bytes, want.data(), n);
  dequantize_row(detect_isa(), DType::kF16, bytes, got.data(), n);
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * 4), 0);
}

}  // namespace
}  // namespace glimpse::test
