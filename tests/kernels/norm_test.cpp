// Norms of every ISA against the formula in double.
#include "kernels/norm/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/row_test_support.h"

namespace glimpse {
namespace {

using row_test::Guarded;
using row_test::nmse;
using row_test::normal_row;
using row_test::same_bits;

class Norm : public row_test::PerIsa {};
GLIMPSE_INSTANTIATE_PER_ISA(Norm, norm_kernels());

constexpr int64_t kSizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 33, 80, 128, 1280, 1283, 1536, 18944};

std::vector<double> naive_norm(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>* bias,
                               double eps) {
  const double n = static_cast<double>(x.size());
  long double mean = 0, squares = 0;
  if (bias != nullptr) {
    for (float v : x) mean += v;
    mean /= n;
  }
  for (float v : x) squares += (v - mean) * (v - mean);
  const long double scale = 1 / std::sqrt(squares / n + eps);
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) {
    out.push_back(static_cast<double>((x[i] - mean) * scale * w[i] + (bias != nullptr ? (*bias)[i] : 0.0f)));
  }
  return out;
}

// Runs a norm in guarded, oddly aligned memory; in place when asked.
std::vector<float> run_norm(Isa isa, const std::vector<float>& x, const std::vector<float>& w,
                            const std::vector<float>* bias, float eps, bool in_place) {
  const int64_t n = static_cast<int64_t>(x.size());
  Guarded<float> in(n, x, 1), weight(n, w, 3), out(n, 5);
  float* to = in_place ? in.data() : out.data();
  if (bias == nullptr) {
    rms_norm(isa, in.data(), weight.data(), eps, n, to);
  } else {
    Guarded<float> b(n, *bias, 7);
    layer_norm(isa, in.data(), weight.data(), b.data(), eps, n, to);
  }
  return std::vector<float>(to, to + n);
}

TEST_P(Norm, MatchesTheFormula) {
  for (int64_t n : kSizes) {
    const auto x = normal_row(n, 1, 2.5f, 0.3f), w = normal_row(n, 2, 0.3f, 1.0f), b = normal_row(n, 3);
    for (const std::vector<float>* bias : {static_cast<const std::vector<float>*>(nullptr), &b}) {
      const auto got = run_norm(GetParam(), x, w, bias, 1e-6f, false);
      EXPECT_LE(nmse(got, naive_norm(x, w, bias, 1e-6f)), 1e-13) << "n " << n;
      EXPECT_TRUE(same_bits(run_norm(GetParam(), x, w, bias, 1e-6f, true), got)) << "in place, n " << n;
    }
  }
}

TEST_P(Norm, KeepsItsDigitsOnAnOutlierChannelAndAFarMean) {
  auto x = normal_row(1280, 4);
  x[77] = 3000;
  const std::vector<float> w(1280, 1.0f), b(1280, 0.0f);
  EXPECT_LE(nmse(run_norm(GetParam(), x, w, nullptr, 1e-6f, false), naive_norm(x, w, nullptr, 1e-6f)), 1e-13);
  x = normal_row(1280, 5, 0.01f, 1000.0f);  // deviations of a few hundred units in the last place
  EXPECT_LE(nmse(run_norm(GetParam(), x, w, &b, 1e-6f, false), naive_norm(x, w, &b, 1e-6f)), 1e-12);
}

TEST_P(Norm, TakesHugeTinyAndConstantRows) {
  const std::vector<float> w(100, 1.0f), b(100, 0.5f);
  for (float size : {1e30f, 1e-30f, 1e-42f, 1.0f}) {
    auto x = normal_row(100, 6);
    for (float& v : x) v *= size;
    EXPECT_LE(nmse(run_norm(GetParam(), x, w, nullptr, 1e-6f, false), naive_norm(x, w, nullptr, 1e-6f)), 1e-12) << size;
    EXPECT_LE(nmse(run_norm(GetParam(), x, w, &b, 1e-6f, false), naive_norm(x, w, &b, 1e-6f)), 1e-12) << size;
  }
  const std::vector<float> constant(100, 1e6f), zero(100, 0.0f);
  EXPECT_TRUE(same_bits(run_norm(GetParam(), constant, w, &b, 1e-6f, false), b));
  EXPECT_TRUE(same_bits(run_norm(GetParam(), zero, w, nullptr, 1e-6f, false), zero));
}

TEST_P(Norm, NanAndInfinityShow) {
  const std::vector<float> w(40, 1.0f), b(40, 0.0f);
  for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    auto x = normal_row(40, 7);
    x[37] = bad;
    EXPECT_TRUE(std::isnan(run_norm(GetParam(), x, w, nullptr, 1e-6f, false)[37]));
    for (float y : run_norm(GetParam(), x, w, &b, 1e-6f, false)) EXPECT_TRUE(std::isnan(y));
  }
}

TEST(NormBits, Avx2AndAvx512GiveTheSameBits) {
  if (!detect_isa().has(Isa::kAvx512)) GTEST_SKIP() << "this CPU has no avx512";
  for (int64_t n : kSizes) {
    const auto x = normal_row(n, 8, 2.0f, 0.5f), w = normal_row(n, 9), b = normal_row(n, 10);
    for (const std::vector<float>* bias : {static_cast<const std::vector<float>*>(nullptr), &b}) {
      EXPECT_TRUE(
          same_bits(run_norm(Isa::kAvx2, x, w, bias, 1e-6f, false), run_norm(Isa::kAvx512, x, w, bias, 1e-6f, false)))
          << "n " << n;
    }
  }
}

}  // namespace
}  // namespace glimpse
