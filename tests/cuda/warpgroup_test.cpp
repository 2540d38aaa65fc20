// Products of many rows as Hopper computes them: beside the reference, and beside the kernels for other devices, whose
// products and steps they share. The executor rounds both alike, so results must be equal; a GPU sums the 16 products
// of a step in an order of its own for each instruction.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/cuda/side.h"

namespace glimpse::cuda {
namespace {

// On a GPU each of some hundred additions to a float rounds, or cuts off, by at most 2^-23 of it; where results are
// rounded to bfloat16 on their way, a few in a thousand come out a bit of 2^-8 apart.
void expect_same(const std::vector<float>& warpgroups, const std::vector<float>& portable, bool rounded = false) {
  if (on_gpu()) {
    EXPECT_LE(nmse(warpgroups, portable), rounded ? 1e-6 : 1e-9);
  } else {
    EXPECT_EQ(warpgroups, portable);
  }
}
bool has_warpgroups() {
  return test_device({.warpgroups = true})->has_warpgroups();
}

class WarpgroupTypes : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!has_warpgroups()) GTEST_SKIP() << "this GPU has no warpgroups";
  }
};

TEST_P(WarpgroupTypes, MultiplyAsTheOracleAndAsOtherDevices) {
  const DType type = GetParam();
  Random random(1);
  // An odd number of column tiles (for blocks of 256: more tiles than stages), columns that end inside a tile.
  const int64_t k = block_columns(type) == 256 ? 768 : 288;
  ErrorSum linear_error, added_error;
  struct Case {
    int64_t rows, n;
  };
  for (const Case& c : {Case{1, 9}, Case{37, 131}, Case{150, 40}, Case{20, 300}}) {
    SCOPED_TRACE(std::to_string(c.rows) + " rows, " + std::to_string(c.n) + " columns");
    const auto weight = quantized(type, random.gaussian(c.rows * k), c.rows, k);
    const std::vector<float> bias = random.gaussian(c.rows), scale = norm_weights(random, k);
    const std::vector<float> x = random.gaussian(c.n * k), residual = random.gaussian(c.n * c.rows);
    const auto [want, got, portable] = on_each(
        [&](Side& s) {
          const Linear w = s.linear(weight, type, c.rows, k, bias);
          const Norm norm = s.norm(Norm::Kind::kRms, k, scale, {});
          return linear_and_added(s, norm, w, s.mat(x, c.n), s.mat(residual, c.n));
        },
        make_ref_ops(), warpgroup_ops(), portable_ops());
    expect_same(got.linear, portable.linear);
    expect_same(got.added, portable.added);
    linear_error.add(got.linear, want.linear);
    added_error.add(got.added, want.added);
  }
  EXPECT_LE(linear_error.value(), 2 * limit_of(type, 9));  // QuickGELU is steeper than 1 in places
  EXPECT_LE(added_error.value(), limit_of(type, 9));
}

// A row's bits depend neither on its neighbours, nor on how the rows were cut, nor on the order in which threads run.
TEST_P(WarpgroupTypes, RowsDoNotDependOnTheBatch) {
  const DType type = GetParam();
  Random random(3);
  const int64_t k = block_columns(type) == 256 ? 768 : 700 / block_columns(type) * block_columns(type);
  const Product product(type, 24, k, 150, random);
  const auto whole = product.cut(warpgroup_ops(), {150});
  EXPECT_EQ(product.cut(warpgroup_ops({.order = host::Order::kReverse}), {9, 100, 41}), whole);
  EXPECT_EQ(product.cut(warpgroup_ops({.order = host::Order::kRandom, .n_multiprocessors = 1}), {128, 22}), whole);
}

INSTANTIATE_TEST_SUITE_P(Types, WarpgroupTypes, ::testing::ValuesIn(weight_types()),
                         [](const auto& type) { return std::string(dtype_name(type.param)); });

// Rows of real models: the ring of stages goes round many times, and ends at other stages. On the executor a few
// columns, for its fibers are slow; a GPU multiplies several blocks of them.
TEST(CudaRing, GoesRoundForLongRows) {
  Random random(11);
  const int64_t n = on_gpu() ? 300 : 9;
  for (const auto& [type, rows, k] : {std::tuple(DType::kQ4_K, 40, 1536), std::tuple(DType::kQ6_K, 24, 8960),
                                      std::tuple(DType::kBF16, 40, 1280), std::tuple(DType::kQ8_0, 72, 5120)}) {
    SCOPED_TRACE(std::string(dtype_name(type)) + " of " + std::to_string(k));
    const Product product(type, rows, k, n, random);
    const auto added =
        on_each([&](Side& s) { return product.added(s); }, make_ref_ops(), warpgroup_ops(), portable_ops());
    expect_same(added[1], added[2]);
    for (size_t i = 1; i < 3; ++i) EXPECT_LE(nmse(added[i], added[0]), limit_of(type, n)) << i;
  }
}

// Blocks of 256 columns: what a row becomes is the same.
TEST_P(WarpgroupTypes, WideBlocksGiveTheSameBits) {
  const DType type = GetParam();
  const int64_t k = 512, rows = 40, n = 249;
  ASSERT_EQ(gemm_warpgroup_columns(1, n, 1), 256);
  Random random(12);
  const Product product(type, rows, k, n, random);
  const auto [added, wide] = on_each([&](Side& s) { return product.added(s); }, warpgroup_ops(), wide_warpgroup_ops());
  expect_same(wide, added);
}

class Warpgroups : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_warpgroups()) GTEST_SKIP() << "this GPU has no warpgroups";
  }
};

TEST_F(Warpgroups, ComputeSwigluAsOtherDevices) {
  Random random(5);
  constexpr int64_t kColumns = 33;
  const SwigluCase swiglu(random);
  for (const auto& [type_gate, type_up] : {std::pair(DType::kQ4_K, DType::kQ4_K), std::pair(DType::kQ8_0, DType::kQ6_K),
                                           std::pair(DType::kF32, DType::kF16)}) {
    const std::vector<float> x = random.gaussian(kColumns * SwigluCase::kCols);
    const auto out = on_each([&](Side& s) { return swiglu.run(s, type_gate, type_up, s.mat(x, kColumns)); },
                             make_ref_ops(), warpgroup_ops(), portable_ops());
    expect_same(out[1], out[2]);
    EXPECT_LE(nmse(out[1], out[0]), 4 * limit_of(DType::kQ4_K, kColumns));  // a product of two: the errors of both
  }
}

TEST_F(Warpgroups, RotateAndCacheAsOtherDevices) {
  Random random(6);
  constexpr int64_t kCols = 256, kPast = 5, kColumns = 20;
  struct Case {
    int64_t n_heads, n_kv_heads, head_dim;
    DType q, k, v;
  };
  const Case cases[] = {{2, 2, 80, DType::kBF16, DType::kBF16, DType::kBF16},
                        {6, 1, 128, DType::kQ4_K, DType::kQ8_0, DType::kQ6_K},
                        {3, 1, 12, DType::kF16, DType::kF16, DType::kF16}};  // halves of 6 are no whole tiles
  for (const Case& c : cases) {
    SCOPED_TRACE(c.head_dim);
    const int64_t q_rows = c.n_heads * c.head_dim, kv_rows = c.n_kv_heads * c.head_dim;
    const std::vector<float> wq = random.gaussian(q_rows * kCols), wk = random.gaussian(kv_rows * kCols),
                             wv = random.gaussian(kv_rows * kCols), bias = random.gaussian(q_rows),
                             x = random.gaussian(kColumns * kCols);
    std::vector<float> cos, sin;
    for (const float angle : random.gaussian(kColumns * c.head_dim / 2)) {
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    for (const KvElement element : {KvElement::kF32, KvElement::kBf16}) {
      std::vector<float> results[2];
      Side sides[2] = {Side(warpgroup_ops()), Side(portable_ops())};
      for (size_t i = 0; i < 2; ++i) {
        Side& s = sides[i];
        QkvWeights w{s.linear(quantized(c.q, wq, q_rows, kCols), c.q, q_rows, kCols, bias),
                     s.linear(quantized(c.k, wk, kv_rows, kCols), c.k, kv_rows, kCols, {}),
                     s.linear(quantized(c.v, wv, kv_rows, kCols), c.v, kv_rows, kCols, {}),
                     c.n_heads,
                     c.n_kv_heads,
                     c.head_dim};
        const auto kv = must(s->make_kv(c.n_kv_heads, c.head_dim, 40, element));
        const Mat in = s.mat(x, kColumns), out = s.poisoned(kColumns, q_rows), cosines = s.mat(cos, kColumns),
                  sines = s.mat(sin, kColumns);
        const glimpse::Segment rows{.kv = kv.get(), .n_rows = kColumns, .n_past = kPast};
        s.run([&] { s->norm_qkv(in, Norm{}, w, RopeTable{cosines, sines}, std::span(&rows, 1), out); });
        results[i] = s.values(out);
        std::vector<float> key(static_cast<size_t>(c.head_dim)), value(key.size());
        for (int64_t position = 0; position < kPast + kColumns + 1; ++position) {
          for (int64_t h = 0; h < c.n_kv_heads; ++h) {
            kv->read(h, position, key.data(), value.data());
            results[i].insert(results[i].end(), key.begin(), key.end());
            results[i].insert(results[i].end(), value.begin(), value.end());
          }
        }
      }
      expect_same(results[0], results[1], element == KvElement::kBf16);
      for (const float v : results[0]) ASSERT_TRUE(std::isfinite(v));
    }
  }
}

TEST_F(Warpgroups, NonFiniteInputsStayInTheirRow) {
  Random random(8);
  Side s(warpgroup_ops());
  const Linear w = s.linear(quantized(DType::kQ4_K, random.gaussian(16 * 256), 16, 256), DType::kQ4_K, 16, 256, {});
  std::vector<float> x = random.gaussian(12 * 256);
  x[3 * 256 + 77] = INFINITY;
  const Mat in = s.mat(x, 12), out = s.poisoned(12, 16);
  s.run([&] {
    s->norm_linear(in, Norm{}, w, Activation::kNone, out);
    EXPECT_TRUE(s->all_finite(out.slice(0, 3)));
    EXPECT_FALSE(s->all_finite(out.slice(3, 1)));
    EXPECT_TRUE(s->all_finite(out.slice(4, 8)));
  });
}

TEST_F(Warpgroups, ReserveCountsWholeAtoms) {
  const auto hopper = warpgroup_ops(), other = portable_ops();
  EXPECT_EQ(hopper->reserve_bytes(16, 256), other->reserve_bytes(16, 256));
  EXPECT_EQ(hopper->reserve_bytes(17, 256), other->reserve_bytes(17, 256) + 7 * 256 * 2);
}

}  // namespace
}  // namespace glimpse::cuda
