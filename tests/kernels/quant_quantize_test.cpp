#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/quant/quant.h"
#include "kernels/quant/search.h"
#include "tests/base/random_numbers.h"
#include "tests/kernels/quant_fixture.h"

namespace glimpse {
namespace {

constexpr int64_t kColumns = 512;  // of the fixtures
constexpr DType kQuantised[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,   DType::kQ2_K,
                                DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS};

std::vector<std::byte> quantized(DType type, const float* x, int64_t n, const float* importance) {
  std::vector<std::byte> out(dtype_row_bytes(type, static_cast<uint64_t>(n)));
  quantize_row_ref(type, x, out.data(), n, importance);
  return out;
}

/// Mean squared error of the round trip over the mean square.
double round_trip_nmse(DType type, const std::vector<float>& x, const float* importance = nullptr) {
  const auto n = std::ssize(x);
  const std::vector<std::byte> blocks = quantized(type, x.data(), n, importance);
  std::vector<float> y(x.size());
  dequantize_row_ref(type, blocks.data(), y.data(), n);
  double error = 0;
  double power = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += (double{y[i]} - x[i]) * (double{y[i]} - x[i]);
    power += double{x[i]} * x[i];
  }
  return error / power;
}

void expect_equal_bytes(DType type, const char* kind, const QuantSections& sections) {
  const std::string name = std::string(dtype_name(type)) + "." + kind;
  ASSERT_TRUE(sections.contains(name)) << name;
  const std::vector<std::byte>& want = sections.at(name);
  const std::vector<float> rows = floats_of(sections.at("rows"));
  const std::vector<float> importance = floats_of(sections.at("importance"));
  const uint64_t row_bytes = dtype_row_bytes(type, kColumns);
  const size_t n_rows = rows.size() / kColumns;
  ASSERT_GT(n_rows, 0u);
  ASSERT_EQ(want.size(), n_rows * row_bytes) << name;
  for (size_t row = 0; row < n_rows; ++row) {
    const float* weights = std::string(kind) == "plain" ? nullptr : importance.data() + row * kColumns;
    const std::vector<std::byte> got = quantized(type, rows.data() + row * kColumns, kColumns, weights);
    const auto [bad, _] = std::mismatch(got.begin(), got.end(), want.begin() + static_cast<int64_t>(row * row_bytes));
    EXPECT_TRUE(bad == got.end()) << name << " row " << row << " byte " << bad - got.begin() << " of " << row_bytes;
  }
}

// Equality with llama.cpp holds for every byte: the searches add in the same order. For F16, BF16 and the simple types
// gguf-py writes the same bytes (checked when the fixtures were made).
TEST(Quantize, EqualsLlamaCppByteForByte) {
  const QuantSections sections = read_quant_sections("quantize.bin");
  for (const DType type : kQuantised) expect_equal_bytes(type, "plain", sections);
  expect_equal_bytes(DType::kF16, "plain", sections);
  expect_equal_bytes(DType::kBF16, "plain", sections);
}

TEST(Quantize, EqualsLlamaCppByteForByteWithImportance) {
  const QuantSections sections = read_quant_sections("quantize.bin");
  for (const DType type : kQuantised) {
    if (type != DType::kQ8_0) expect_equal_bytes(type, "importance", sections);
  }
}

TEST(Quantize, UnsearchedTypesIgnoreImportance) {
  const std::vector<float> x = gaussian_numbers(kColumns, 1);
  const std::vector<float> importance(x.size(), 0.25f);
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    EXPECT_EQ(quantized(type, x.data(), kColumns, importance.data()), quantized(type, x.data(), kColumns, nullptr));
  }
}

TEST(Quantize, WritesExactlyTheRowAtAnyAlignment) {
  const std::vector<float> x = gaussian_numbers(kColumns, 2);
  const std::vector<float> ones(x.size(), 1.0f);
  for (const DType type : kQuantised) {
    const std::vector<std::byte> want = quantized(type, x.data(), kColumns, ones.data());
    std::vector<std::byte> guarded(want.size() + 2, std::byte{0xa5});
    quantize_row_ref(type, x.data(), guarded.data() + 1, kColumns, ones.data());
    EXPECT_EQ(guarded.front(), std::byte{0xa5}) << dtype_name(type);
    EXPECT_EQ(guarded.back(), std::byte{0xa5}) << dtype_name(type);
    EXPECT_TRUE(std::equal(want.begin(), want.end(), guarded.begin() + 1)) << dtype_name(type);
  }
}

// Lower bound: no code of R bits per element does better on a gaussian than 4^-R (rate distortion). Upper bound:
// uniform steps over the expected range of a group leave step^2 / 12. The mean squared range of n gaussians is d2^2 +
// d3^2 of the range tables: 3.532^2 + 0.750^2 = 13.0 for n = 16, 4.139^2 + 0.689^2 = 17.6 for n = 32. Symmetric types
// span 2 max|x|, the integral of 8 t (1 - erf(t / sqrt 2)^n) over t > 0: 18.2 for n = 16, 22.8 for n = 32. Coarse
// group scales (4 bits in Q2_K, 6 signed bits in Q3_K and IQ4_XS) stretch the step by up to half a unit of the scale.
TEST(Quantize, GaussianErrorLiesBetweenTheRateBoundAndUniformSteps) {
  struct Bound {
    DType type;
    double mean_squared_range;
    int steps;       // between the ends of the range
    double stretch;  // of the step by the rounding of the group's scale
  };
  constexpr Bound kBounds[] = {
      {DType::kQ4_0, 22.8, 16, 1},
      {DType::kQ4_1, 17.6, 15, 1},
      {DType::kQ5_0, 22.8, 32, 1},
      {DType::kQ5_1, 17.6, 31, 1},
      {DType::kQ8_0, 22.8, 254, 1},
      {DType::kIQ4_NL, 22.8, 16, 1},
      {DType::kQ2_K, 13.0, 3, 1 + 0.5 / 8},
      {DType::kQ3_K, 18.2, 8, 1 + 0.5 / 16},
      {DType::kQ4_K, 17.6, 15, 1 + 0.5 / 32},
      {DType::kQ5_K, 17.6, 31, 1 + 0.5 / 32},
      {DType::kQ6_K, 18.2, 64, 1 + 0.5 / 64},
      {DType::kIQ4_XS, 22.8, 16, 1 + 0.5 / 16},
  };
  const std::vector<float> x = gaussian_numbers(64 * 256, 3);
  for (const Bound& bound : kBounds) {
    const DTypeInfo& info = dtype_info(bound.type);
    const double bits = 8.0 * info.block_bytes / info.block_length;
    const double step = std::sqrt(bound.mean_squared_range) / bound.steps * bound.stretch;
    const double nmse = round_trip_nmse(bound.type, x);
    EXPECT_GT(nmse, std::pow(4.0, -bits)) << info.name;
    EXPECT_LT(nmse, step * step / 12) << info.name;
  }
}

TEST(Quantize, HigherPrecisionFloatTypesRoundTrip) {
  const std::vector<float> x = gaussian_numbers(4096, 4);
  EXPECT_EQ(round_trip_nmse(DType::kF32, x), 0);
  EXPECT_LT(round_trip_nmse(DType::kF16, x), std::pow(2.0, -22));   // relative error at most 2^-11
  EXPECT_LT(round_trip_nmse(DType::kBF16, x), std::pow(2.0, -16));  // 2^-8
}

TEST(Quantize, ImportanceLowersTheWeightedError) {
  const std::vector<float> x = gaussian_numbers(16 * 256, 5);
  std::vector<float> importance = gaussian_numbers(std::ssize(x), 6);
  for (float& value : importance) value = std::exp(2 * value);
  const auto weighted_error = [&](DType type, const float* weights) {
    const std::vector<std::byte> blocks = quantized(type, x.data(), std::ssize(x), weights);
    std::vector<float> y(x.size());
    dequantize_row_ref(type, blocks.data(), y.data(), std::ssize(x));
    double error = 0;
    for (size_t i = 0; i < x.size(); ++i) error += importance[i] * std::pow(double{y[i]} - x[i], 2);
    return error;
  };
  for (const DType type : kQuantised) {
    if (type == DType::kQ8_0) continue;
    EXPECT_LT(weighted_error(type, importance.data()), weighted_error(type, nullptr)) << dtype_name(type);
  }
}

TEST(Quantize, ZeroRowsComeBackAsZeros) {
  const std::vector<float> zeros(kColumns, 0.0f);
  const std::vector<float> ones(kColumns, 1.0f);
  for (const DType type : kQuantised) {
    for (const float* importance : {static_cast<const float*>(nullptr), ones.data(), zeros.data()}) {
      const std::vector<std::byte> blocks = quantized(type, zeros.data(), kColumns, importance);
      std::vector<float> y(zeros.size(), 1.0f);
      dequantize_row_ref(type, blocks.data(), y.data(), kColumns);
      EXPECT_EQ(y, zeros) << dtype_name(type);  // -0 equals 0
    }
  }
}

// Under the sanitizers this says that no input reaches an undefined conversion; in every build the bytes are the same
// each time, and an overflowing scale is found.
TEST(Quantize, HugeTinyAndNonFiniteRowsAreHarmless) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> base = gaussian_numbers(kColumns, 7);
  for (const float factor : {1e-45f, 1e-39f, 1e-20f, 1e-7f, 1e4f, 1e9f, 1e19f, 3e37f, kInfinity, kNan}) {
    std::vector<float> x = base;
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isfinite(factor))
        x[i] *= factor;
      else if (i % 50 == 7)
        x[i] = factor;
    }
    const std::vector<float> importance(x.size(), 1.0f);
    for (const DType type : kQuantised) {
      for (const float* weights : {static_cast<const float*>(nullptr), importance.data()}) {
        const std::vector<std::byte> blocks = quantized(type, x.data(), kColumns, weights);
        EXPECT_EQ(blocks, quantized(type, x.data(), kColumns, weights)) << dtype_name(type) << " x " << factor;
        if (factor < 1e-6f) {
          EXPECT_EQ(find_non_finite_block(type, blocks.data(), kColumns), -1) << dtype_name(type);
        }
      }
      if (factor == 1e9f) {
        const std::vector<std::byte> blocks = quantized(type, x.data(), kColumns, nullptr);
        EXPECT_GE(find_non_finite_block(type, blocks.data(), kColumns), 0) << dtype_name(type);
      }
    }
  }
}

TEST(Search, RoundClampedRoundsHalfToEvenAndTakesAnyFloat) {
  EXPECT_EQ(round_clamped(0.5f, -8, 7), 0);
  EXPECT_EQ(round_clamped(1.5f, -8, 7), 2);
  EXPECT_EQ(round_clamped(-2.5f, -8, 7), -2);
  EXPECT_EQ(round_clamped(7.6f, -8, 7), 7);
  EXPECT_EQ(round_clamped(1e30f, -8, 7), 7);
  EXPECT_EQ(round_clamped(-std::numeric_limits<float>::infinity(), -8, 7), -8);
  EXPECT_EQ(round_clamped(std::numeric_limits<float>::quiet_NaN(), -8, 7), -8);
}

TEST(Search, AffineFitFindsExactLevels) {
  // x = 0.25 q - 1.5 with all of 0..15 present: zero error is possible, so the fit must be (nearly) exact.
  float x[32];
  float weights[32];
  for (int i = 0; i < 32; ++i) {
    x[i] = 0.25f * static_cast<float>(i * 7 % 16) - 1.5f;
    weights[i] = 1.0f + static_cast<float>(i % 3);
  }
  uint8_t q[32];
  const AffineFit fit = fit_affine(x, weights, 32, 15, {-1.0f, 0.1f, 20, false}, q);
  EXPECT_NEAR(fit.scale, 0.25f, 1e-6f);
  EXPECT_NEAR(fit.min, 1.5f, 1e-5f);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(q[i], i * 7 % 16);
}

// The target is 1 to 2 us per 32 elements; the bound leaves room for sanitizers and a busy machine.
TEST(QuantizeTiming, AGroupTakesMicrosecondsNotMilliseconds) {
  const std::vector<float> x = gaussian_numbers(16 * 256, 8);
  const std::vector<float> importance(x.size(), 1.0f);
  for (const DType type : kQuantised) {
    const auto start = std::chrono::steady_clock::now();
    quantized(type, x.data(), std::ssize(x), importance.data());
    const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
    EXPECT_LT(elapsed.count() / (static_cast<double>(x.size()) / 32), 200) << dtype_name(type);
  }
}

}  // namespace
}  // namespace glimpse
