// Products of many rows as Hopper computes them: beside the reference, and beside the kernels for other devices, whose
// products and steps they share. The executor rounds both alike, so results must be equal; a GPU sums the 16 products
// of a step in an order of its own for each instruction.
#include <gtest/gtest.h>

#include <tuple>

#include "kernels/cuda/device_blocks.h"
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
  for (const Case& c : {Case{1, 9}, Case{37, 131}, Case{150, 40}, Case{20, 300}, Case{8, 65}}) {
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
    if (gemm_chunk_tiles(static_cast<int>(k / kTileColumns)) == k / kTileColumns) {
      expect_same(added[1], added[2]);
    } else {
      EXPECT_LE(nmse(added[1], added[2]), 1e-12);  // warpgroups add chunk by chunk
    }
    for (size_t i = 1; i < 3; ++i) EXPECT_LE(nmse(added[i], added[0]), limit_of(type, n)) << i;
  }
}

class Warpgroups : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_warpgroups()) GTEST_SKIP() << "this GPU has no warpgroups";
  }
};

// Blocks share the chunks of long rows where there are few columns: the same bits on a device that has room for them
// and on one that has not, and again, with the tickets that the first launch left.
TEST_F(Warpgroups, ChunksOfLongRowsGiveTheSameBitsWhoeverAddsThem) {
  Random random(13);
  const int64_t k = 50 * kTileColumns, rows = 24, n = 9;
  ASSERT_EQ(gemm_chunk_tiles(50), 10);
  // Whole numbers are exact in any order: the bits are the oracle's.
  for (const auto& [type, whole_numbers] : {std::pair(DType::kQ4_K, false), std::pair(DType::kBF16, true)}) {
    SCOPED_TRACE(dtype_name(type));
    std::vector<float> values = random.gaussian(rows * k), x = random.gaussian(n * k);
    if (whole_numbers) {
      for (float& v : values) v = std::round(v);
      for (float& v : x) v = std::round(v);
    }
    const auto weight = quantized(type, values, rows, k);
    const std::vector<float> residual(static_cast<size_t>(n * rows), 3.0f);
    const auto add = [&](Side& s, const Linear& w) {
      const Mat in = s.mat(x, n), sum = s.mat(residual, n);
      s.run([&] { s->linear_add(in, w, sum); });
      return s.values(sum);
    };
    const auto added = [&](int n_multiprocessors) {
      EXPECT_EQ(gemm_splits(1, 50, n_multiprocessors), n_multiprocessors == 1 ? 1 : 5);
      const std::shared_ptr<Device> device = test_device({.warpgroups = true});
      Side s(must(CudaOps::create(std::make_shared<OtherDevice>(device, true, n_multiprocessors), 1)));
      EXPECT_OK(s->reserve_attention(1, 16, 64));  // the memory of sums
      const Linear w = s.linear(weight, type, rows, k, {});
      const std::vector<float> once = add(s, w);
      if (whole_numbers && n_multiprocessors > 1) {
        EXPECT_EQ(add(s, w), once);
      }
      return once;
    };
    Side oracle(make_ref_ops());
    const std::vector<float> want = add(oracle, oracle.linear(weight, type, rows, k, {})), together = added(1);
    if (whole_numbers) {
      EXPECT_EQ(together, want);
    } else {
      EXPECT_LE(nmse(together, want), limit_of(type, n));
    }
    EXPECT_EQ(added(132), together);
  }
}

// Several blocks of rows and of columns, each with sums and a ticket of its own, some of them cut off at the edges:
// whole numbers, so that the bits are the oracle's.
TEST_F(Warpgroups, EveryBlockSharesItsOwnChunks) {
  Random random(14);
  const int64_t k = 49 * kTileColumns, rows = 135, n = 130;
  ASSERT_EQ(gemm_splits(4, 49, 132), 5);
  std::vector<float> values = random.gaussian(rows * k), x = random.gaussian(n * k);
  for (float& v : values) v = std::round(v);
  for (float& v : x) v = std::round(v);
  const auto product_on = [&](Side& s) {
    EXPECT_OK(s->reserve_attention(1, 16, 64));  // the memory of sums
    const Linear w = s.linear(quantized(DType::kBF16, values, rows, k), DType::kBF16, rows, k, {});
    const Mat in = s.mat(x, n), out = s.poisoned(n, rows);
    s.run([&] { s->norm_linear(in, Norm{}, w, Activation::kNone, out); });
    return s.values(out);
  };
  const std::shared_ptr<Device> device = test_device({.warpgroups = true});
  Side oracle(make_ref_ops()), shared(must(CudaOps::create(std::make_shared<OtherDevice>(device, true, 132), 1)));
  EXPECT_EQ(product_on(shared), product_on(oracle));
}

TEST(CudaChunks, AreSharedOutWhereThatIsSoonerDone) {
  const auto splits = [](int64_t row_groups, int64_t n, int k_tiles) {
    return gemm_splits(row_groups * ((n + 127) / 128), k_tiles, 132);
  };
  EXPECT_EQ(splits(12, 64, 70), 6);  // down of 2B
  EXPECT_EQ(splits(12, 512, 70), 6);
  EXPECT_EQ(splits(12, 1024, 70), 1);  // blocks enough
  EXPECT_EQ(splits(10, 64, 40), 1);    // one chunk
  for (int k_tiles = 1; k_tiles < 400; ++k_tiles) {
    const int chunk = gemm_chunk_tiles(k_tiles);
    EXPECT_LE(chunk, k_tiles);
    EXPECT_TRUE(chunk == k_tiles || chunk % 2 == 0) << k_tiles;  // two tiles share the records of super-blocks
  }
}

// Blocks of 256 columns: what a row becomes is the same.
TEST_P(WarpgroupTypes, WideBlocksGiveTheSameBits) {
  const DType type = GetParam();
  const int64_t k = 512, rows = 40, n = 249;
  ASSERT_EQ(gemm_warpgroup_columns(device_format(type), 1, n, 1, true), 256);
  Random random(12);
  const Product product(type, rows, k, n, random);
  const auto [added, wide] = on_each([&](Side& s) { return product.added(s); }, warpgroup_ops(), wide_warpgroup_ops());
  expect_same(wide, added);
}

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
