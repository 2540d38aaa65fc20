// The rotary embedding of every ISA against the formula in double.
#include "kernels/rope/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/row_test_support.h"

namespace glimpse {
namespace {

using row_test::Guarded;
using row_test::normal_row;
using row_test::same_bits;

class Rope : public row_test::PerIsa {};
GLIMPSE_INSTANTIATE_PER_ISA(Rope, rope_kernels());

constexpr int64_t kHeadDims[] = {2, 4, 6, 14, 16, 18, 32, 34, 64, 72, 80, 128, 256};

struct Angles {
  std::vector<float> cos, sin;
  explicit Angles(int64_t half) {
    for (int64_t j = 0; j < half; ++j) {
      const double angle = 1000 * std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(half));
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
};

std::vector<float> rotated(Isa isa, const std::vector<float>& x, const Angles& angles) {
  const int64_t n = static_cast<int64_t>(x.size());
  Guarded<float> row(n, x, 1), cos(n / 2, angles.cos, 3), sin(n / 2, angles.sin, 5);
  rope_head(isa, row.data(), cos.data(), sin.data(), n);
  return row.copy();
}

TEST_P(Rope, MatchesTheFormula) {
  for (int64_t n : kHeadDims) {
    const int64_t half = n / 2;
    const auto x = normal_row(n, 1, 3.0f);
    const Angles angles(half);
    const auto got = rotated(GetParam(), x, angles);
    for (int64_t j = 0; j < half; ++j) {
      const double a = x[j], b = x[j + half], c = angles.cos[j], s = angles.sin[j];
      const double bound = 1.2e-7 * (std::abs(a) + std::abs(b));  // two roundings of terms no larger than this
      ASSERT_NEAR(got[j], a * c - b * s, bound) << n << " at " << j;
      ASSERT_NEAR(got[j + half], b * c + a * s, bound) << n << " at " << j;
    }
  }
}

TEST_P(Rope, AngleZeroChangesNothing) {
  for (int64_t n : kHeadDims) {
    Angles angles(n / 2);
    std::fill(angles.cos.begin(), angles.cos.end(), 1.0f);
    std::fill(angles.sin.begin(), angles.sin.end(), 0.0f);
    const auto x = normal_row(n, 2);
    EXPECT_TRUE(same_bits(rotated(GetParam(), x, angles), x)) << n;
  }
}

TEST_P(Rope, NanStaysInItsPair) {
  auto x = normal_row(80, 3);
  x[50] = std::nanf("");
  const auto got = rotated(GetParam(), x, Angles(40));
  for (int64_t j = 0; j < 80; ++j) EXPECT_EQ(std::isnan(got[j]), j == 10 || j == 50) << j;
}

TEST(RopeBits, Avx2AndAvx512GiveTheSame) {
  if (!detect_isa().has(Isa::kAvx512)) GTEST_SKIP() << "this CPU has no avx512";
  for (int64_t n : kHeadDims) {
    const auto x = normal_row(n, 4);
    const Angles angles(n / 2);
    EXPECT_TRUE(same_bits(rotated(Isa::kAvx2, x, angles), rotated(Isa::kAvx512, x, angles))) << n;
  }
}

}  // namespace
}  // namespace glimpse
