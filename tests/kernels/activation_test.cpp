// Activations of every ISA against the formulas in long double, over the whole range of float.
#include "kernels/activation/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/row_test_support.h"

namespace glimpse {
namespace {

using row_test::Guarded;
using row_test::normal_row;
using row_test::same_bits;

const float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();

long double sigmoid(long double z) {
  return 1 / (1 + std::exp(-z));
}
long double exact_silu(long double x) {
  return x * sigmoid(x);
}
long double exact_quick_gelu(long double x) {
  return x * sigmoid(1.702L * x);
}
long double exact_gelu_erf(long double x) {
  return x * 0.5L * std::erfc(-x / std::sqrt(2.0L));
}
long double exact_gelu_tanh(long double x) {
  return x * sigmoid(2 * std::sqrt(2 / 3.14159265358979323846L) * (x + 0.044715L * x * x * x));
}

// A tile of one column, in place.
template <glimpse::Activation activation>
void in_a_tile(Isa isa, float* x, int64_t n) {
  store_tile(isa, {x, n, n, 1, nullptr}, activation, x, n);
}

void swiglu_by_one(Isa isa, float* x, int64_t n) {  // silu by the other entry
  const std::vector<float> ones(static_cast<size_t>(n), 1.0f);
  swiglu(isa, x, ones.data(), n, x);
}

struct Function {
  const char* name;
  void (*run)(Isa, float*, int64_t);
  long double (*exact)(long double);
  double tail;  // error allowed as a share of |x|, see activation.h
};
const Function kFunctions[] = {
    {"silu", in_a_tile<glimpse::Activation::kSilu>, exact_silu, 0},
    {"swiglu", swiglu_by_one, exact_silu, 0},
    {"quick_gelu", in_a_tile<glimpse::Activation::kQuickGelu>, exact_quick_gelu, 0},
    {"gelu_erf", in_a_tile<glimpse::Activation::kGeluErf>, exact_gelu_erf, 0},
    {"gelu_tanh", in_a_tile<glimpse::Activation::kGeluTanh>, exact_gelu_tanh, 1e-9},
};

class Activation : public row_test::PerIsa {};
GLIMPSE_INSTANTIATE_PER_ISA(Activation, activation_kernels());

// A fine grid where the functions bend, every power of two with a few mantissas elsewhere.
std::vector<float> sweep() {
  std::vector<float> x;
  for (int i = -120 * 512; i <= 120 * 512; ++i) x.push_back(static_cast<float>(i) / 512 * 1.0001f);
  for (int e = -149; e < 128; ++e) {
    for (float m : {1.0f, 1.2345678f, 1.9999999f}) {
      x.push_back(std::ldexp(m, e));
      x.push_back(-std::ldexp(m, e));
    }
  }
  for (float v : {0.0f, -0.0f, 1e30f, -1e30f, kMax, -kMax}) x.push_back(v);
  return x;
}

TEST_P(Activation, StaysWithinItsBoundOverAllFloats) {
  const std::vector<float> x = sweep();
  for (const Function& f : kFunctions) {
    std::vector<float> y = x;
    f.run(GetParam(), y.data(), static_cast<int64_t>(y.size()));
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_FALSE(std::isnan(y[i])) << f.name << " of " << x[i];
      const long double want = f.exact(x[i]);
      const long double bound = 3e-6L * std::abs(want) + f.tail * std::abs(static_cast<long double>(x[i])) + 1e-36L;
      const double share = static_cast<double>(std::abs(y[i] - want) / bound);
      if (share > worst) worst = share, at = i;
    }
    EXPECT_LE(worst, 1) << f.name << " of " << x[at] << ": got " << y[at] << ", want " << f.exact(x[at]);
  }
}

TEST_P(Activation, TakesItsLimitsAtInfinityAndSpreadsNan) {
  for (const Function& f : kFunctions) {
    float x[] = {kInf, -kInf, std::nanf(""), -std::nanf("7"), -1e30f, 1e30f, 0.0f, -0.0f};
    f.run(GetParam(), x, 8);
    EXPECT_EQ(x[0], kInf) << f.name;
    EXPECT_EQ(x[1], 0.0f) << f.name;
    EXPECT_TRUE(std::signbit(x[1])) << f.name;
    EXPECT_TRUE(std::isnan(x[2])) << f.name;
    EXPECT_TRUE(std::isnan(x[3])) << f.name;
    EXPECT_EQ(x[4], 0.0f) << f.name;
    EXPECT_EQ(x[5], 1e30f) << f.name;
    EXPECT_TRUE(x[6] == 0 && !std::signbit(x[6])) << f.name;
    EXPECT_TRUE(x[7] == 0 && std::signbit(x[7])) << f.name;
  }
}

TEST_P(Activation, OfAnElementDoesNotDependOnItsPlace) {
  const std::vector<float> row = normal_row(67, 1, 4.0f);
  for (const Function& f : kFunctions) {
    Guarded<float> whole(67, row, 1);
    f.run(GetParam(), whole.data(), 67);
    for (int64_t n = 0; n <= 40; ++n) {
      Guarded<float> part(n, std::vector<float>(row.begin() + 13, row.end()), n % 5);
      f.run(GetParam(), part.data(), n);
      ASSERT_TRUE(same_bits(part.copy(), std::span(whole.data() + 13, static_cast<size_t>(n)))) << f.name << " n " << n;
    }
  }
}

TEST_P(Activation, SwigluMultipliesByUpAndAllowsBothInPlaceForms) {
  for (int64_t n : {1, 15, 16, 17, 100, 8960}) {
    const auto gate = normal_row(n, 2, 3.0f), up = normal_row(n, 3);
    Guarded<float> g(n, gate, 1), u(n, up, 2), out(n, 3);
    swiglu(GetParam(), g.data(), u.data(), n, out.data());
    for (int64_t i = 0; i < n; ++i) {
      const double want = static_cast<double>(exact_silu(gate[i]) * up[i]);
      ASSERT_NEAR(out[i], want, 3e-6 * std::abs(want)) << i;
    }
    swiglu(GetParam(), g.data(), u.data(), n, g.data());
    EXPECT_TRUE(same_bits(g.copy(), out.copy()));
    Guarded<float> again(n, gate, 1);
    swiglu(GetParam(), again.data(), u.data(), n, u.data());
    EXPECT_TRUE(same_bits(u.copy(), out.copy()));
  }
}

TEST_P(Activation, AddIsExact) {
  for (int64_t n : {0, 1, 7, 8, 9, 15, 16, 17, 33, 1536}) {
    const auto x = normal_row(n, 4), y = normal_row(n, 5);
    Guarded<float> a(n, x, 1), b(n, y, 2);
    add(GetParam(), a.data(), n, b.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(b[i], y[i] + x[i]) << i;
  }
}

// Tiles: out = f(tile + bias) and out += tile + bias, each element as a row of its own is computed.
TEST_P(Activation, TilesEqualTheirRowsAndTouchNothingElse) {
  using glimpse::Activation;
  constexpr int64_t kColumns = 3, kLd = 40, kLdOut = 50;
  for (const int64_t n : {1, 15, 16, 17, 32, 33}) {
    const std::vector<float> values = normal_row(kColumns * kLd, 5), bias = normal_row(n, 6),
                             old = normal_row(kLdOut * kColumns, 7);
    for (const float* bias_data : {bias.data(), static_cast<const float*>(nullptr)}) {
      const ProductTile tile{values.data(), kLd, n, kColumns, bias_data};
      for (const Activation activation : {Activation::kNone, Activation::kQuickGelu, Activation::kGeluErf,
                                          Activation::kGeluTanh, Activation::kSilu}) {
        std::vector<float> want = old, got = old;
        for (int64_t c = 0; c < kColumns; ++c) {
          float* to = want.data() + c * kLdOut;
          for (int64_t r = 0; r < n; ++r) to[r] = values[c * kLd + r] + (bias_data != nullptr ? bias[r] : 0.0f);
          store_tile(GetParam(), {to, n, n, 1, nullptr}, activation, to, n);
        }
        store_tile(GetParam(), tile, activation, got.data(), kLdOut);
        EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * 4), 0)
            << n << " rows, activation " << static_cast<int>(activation);
      }
      std::vector<float> want = old, got = old;
      for (int64_t c = 0; c < kColumns; ++c) {
        for (int64_t r = 0; r < n; ++r)
          want[c * kLdOut + r] += values[c * kLd + r] + (bias_data != nullptr ? bias[r] : 0.0f);
      }
      add_tile(GetParam(), tile, got.data(), kLdOut);
      EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * 4), 0) << n << " rows, added";
    }
  }
}

}  // namespace
}  // namespace glimpse
