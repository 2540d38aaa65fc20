// Conversion of activations: what the reference computes, and that every ISA computes the same bits.
#include <gtest/gtest.h>

#include <bit>

#include "engine/base/cpu_features.h"
#include "kernels/matmul/matmul.h"
#include "tests/kernels/panel_test_util.h"

namespace glimpse::test {
namespace {

const std::vector<ActFormat> kFormats = {ActFormat::kF32, ActFormat::kBf16, ActFormat::kInt8x32,
                                         ActFormat::kInt8x32Mixed, ActFormat::kInt8x128K};

std::vector<float> awkward_row(int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss;
  std::vector<float> x(static_cast<uint64_t>(k));
  for (int64_t i = 0; i < k; ++i) {
    const int64_t region = i / 256 % 6;
    x[i] = gauss(random);
    if (region == 1) x[i] = static_cast<float>(static_cast<int>(random() % 509) - 254) / 2;  // ties of the rounding
    if (region == 2) x[i] = 0;
    if (region == 3) x[i] *= 1e-38f;
    if (region == 4) x[i] *= 1e37f;
    if (region == 5 && i % 32 == 3) x[i] *= 1000;
  }
  if (k > 300) x[300] = 127;
  return x;
}

class ActIsa : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!detect_isa().has(GetParam())) GTEST_SKIP() << "this CPU lacks " << isa_name(GetParam());
  }
};

TEST_P(ActIsa, ProducesTheReferencesBitsAndTouchesNothingElse) {
  for (const ActFormat format : kFormats) {
    for (const int64_t k : {1, 16, 31, 32, 37, 255, 256, 257, 588, 1536, 1800, 3420}) {
      for (int special = 0; special < 3; ++special) {
        std::vector<float> x = awkward_row(k, static_cast<uint32_t>(k));
        if (special == 1) x[k / 2] = std::bit_cast<float>(0xffc12345u);  // NaN with a sign and a payload
        if (special == 2) x[k - 1] = -INFINITY;
        const uint64_t n_bytes = act_bytes(format, 3, k);
        AlignedBuffer got = allocate(n_bytes), want = allocate(n_bytes);
        std::memset(got.data(), 0x5a, n_bytes);
        std::memset(want.data(), 0x5a, n_bytes);
        quantize_act_row(GetParam(), make_act_view(format, 3, k, got.data()), 1, x.data());
        quantize_act_row(Isa::kRef, make_act_view(format, 3, k, want.data()), 1, x.data());
        for (uint64_t i = 0; i < n_bytes; ++i) {
          ASSERT_EQ(got.data()[i], want.data()[i])
              << "format " << static_cast<int>(format) << " k " << k << " byte " << i;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, ActIsa, testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16),
                         [](const auto& isa) { return isa_name(isa.param); });

template <typename T>
T at(const ActView& view, int64_t column, int64_t where, int64_t index) {
  T value;
  std::memcpy(&value, view.data + column * view.row_bytes + where + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

TEST(Act, Int8IsSymmetricWithScaleMaxOver127AndRoundsToEven) {
  AlignedBuffer storage = allocate(act_bytes(ActFormat::kInt8x128K, 1, 512));
  const ActView view = make_act_view(ActFormat::kInt8x128K, 1, 512, storage.data());
  std::vector<float> x(512, 0.0f);
  x[0] = -254;
  x[1] = 254;
  x[2] = 1;   // 0.5 -> 0
  x[3] = 3;   // 1.5 -> 2
  x[4] = -5;  // -2.5 -> -2
  x[17] = 20;
  quantize_act_row(Isa::kRef, view, 0, x.data());
  EXPECT_EQ(at<float>(view, 0, view.scales_at, 0), 2.0f);
  const int want[5] = {-127, 127, 0, 2, -2};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(at<int8_t>(view, 0, 0, i), want[i]) << i;
  EXPECT_EQ(at<int16_t>(view, 0, view.sums16_at, 0), 0);
  EXPECT_EQ(at<int16_t>(view, 0, view.sums16_at, 1), 10);
  EXPECT_EQ(at<int16_t>(view, 0, view.sums32_at, 0), 10);
  EXPECT_EQ(at<int32_t>(view, 0, view.bias16_at, 1), -1280);
  EXPECT_EQ(at<int32_t>(view, 0, view.bias32_at, 0), -1280);
  EXPECT_EQ(at<float>(view, 0, view.scales_at, 1), 0.0f) << "an all-zero block has scale 0";
}

// The matrix written out: signs in a quadratic form of the bits, then (-1)^(number of common bits).
TEST(Act, MixingIsAnOrthogonalMatrixAndItsInverse) {
  for (int column = 0; column < 32; ++column) {
    float x[32] = {};
    x[column] = 1;
    mix_block(x);
    const int sign = ((column & 1) * (column >> 1 & 1)) ^ ((column >> 2 & 1) * (column >> 3 & 1));
    for (int i = 0; i < 32; ++i) {
      ASSERT_EQ(x[i], (std::popcount(static_cast<unsigned>(i & column)) + sign) % 2 == 0 ? 0.125f : -0.125f)
          << column << " " << i;
      x[i] *= 2;
    }
    unmix_block(x);
    for (int i = 0; i < 32; ++i) ASSERT_EQ(x[i], i == column ? 1.0f : 0.0f) << column << " " << i;
  }
}

// A large channel takes little from the others of its block; 32 equal values are spread over 16 results.
TEST(Act, MixedBlocksKeepTheirPrecisionBesideALargeValue) {
  std::vector<float> x(32), same(32, 1.0f);
  for (size_t i = 0; i < 32; ++i) x[i] = std::sin(static_cast<float>(i));
  x[7] = 100;
  const auto error = [](ActFormat format, const std::vector<float>& v) {
    AlignedBuffer storage = allocate(act_bytes(format, 1, 32));
    const ActView view = make_act_view(format, 1, 32, storage.data());
    quantize_act_row(Isa::kRef, view, 0, v.data());
    float back[32];
    for (int i = 0; i < 32; ++i) back[i] = at<float>(view, 0, view.scales_at, 0) * at<int8_t>(view, 0, 0, i);
    if (format == ActFormat::kInt8x32Mixed) {
      for (float& b : back) b *= 2;
      unmix_block(back);
    }
    float sum = 0;
    for (size_t i = 0; i < 32; ++i) sum += (back[i] - v[i]) * (back[i] - v[i]);
    return sum;
  };
  EXPECT_LE(20 * error(ActFormat::kInt8x32Mixed, x), error(ActFormat::kInt8x32, x));
  EXPECT_LE(error(ActFormat::kInt8x32Mixed, same), 1e-9f);
}

TEST(Act, RecordsAreAlignedAndDoNotShareCacheSets) {
  for (const ActFormat format : kFormats) {
    for (const int64_t k : {1, 32, 256, 588, 1536, 2048, 4096, 8192, 8960, 12288}) {
      AlignedBuffer storage = allocate(act_bytes(format, 5, k));
      const ActView view = make_act_view(format, 5, k, storage.data());
      EXPECT_EQ(view.row_bytes % 64, 0);
      EXPECT_NE(view.row_bytes % 4096, 0) << k;
      EXPECT_EQ(view.k_padded % 256, 0);
      EXPECT_GE(view.k_padded, k);
      EXPECT_EQ(act_bytes(format, 5, k), static_cast<uint64_t>(5 * view.row_bytes));
      const ActView part = act_columns(view, 2, 3);
      EXPECT_EQ(part.data, view.data + 2 * view.row_bytes);
      EXPECT_EQ(part.n, 3);
    }
  }
}

}  // namespace
}  // namespace glimpse::test
