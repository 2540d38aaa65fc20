// CudaOps on the host executor against RefOps: every operation, every weight type, on both sides of the border between
// few rows (dot products) and many (matrix fragments).
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/matmul/panel_codes.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/side.h"

namespace glimpse::cuda {
namespace {

class CudaTypes : public ::testing::TestWithParam<DType> {
 protected:
  int64_t cols() const { return block_columns(GetParam()) == 256 ? 512 : 288; }
};

TEST_P(CudaTypes, MultiplyAsTheOracle) {
  const DType type = GetParam();
  Random random(1);
  const int64_t k = cols();
  ErrorSum linear_error[2], added_error[2];  // of few columns, of many
  for (const int64_t rows : {1, 37}) {
    const auto weight = quantized(type, random.gaussian(rows * k), rows, k);
    const std::vector<float> bias = random.gaussian(rows), scale = norm_weights(random, k);
    for (const int64_t n : {1, 2, 4, 5, 8, 9, 131}) {
      SCOPED_TRACE(std::to_string(rows) + " rows, " + std::to_string(n) + " columns");
      const std::vector<float> x = random.gaussian(n * k), residual = random.gaussian(n * rows);
      const auto [want, got] = on_each(
          [&](Side& s) {
            const Linear w = s.linear(weight, type, rows, k, bias);
            const Norm norm = s.norm(Norm::Kind::kRms, k, scale, {});
            return linear_and_added(s, norm, w, s.mat(x, n), s.mat(residual, n));
          },
          make_ref_ops(), host_ops());
      const bool many = n > CudaOps::kFewRows;
      linear_error[many].add(got.linear, want.linear);
      added_error[many].add(got.added, want.added);
    }
  }
  for (const int64_t n : {1, 131}) {
    EXPECT_LE(linear_error[n > 1].value(), 2 * limit_of(type, n)) << n;  // QuickGELU is steeper than 1 in places
    EXPECT_LE(added_error[n > 1].value(), limit_of(type, n)) << n;
  }
}

// Weights and activations that every step represents exactly: the results must be equal, whatever the path.
TEST_P(CudaTypes, AreExactWhereTheMathIsInteger) {
  const DType type = GetParam();
  Random random(2);
  const int64_t k = cols(), rows = 21;
  const DTypeInfo& info = dtype_info(type);
  std::vector<std::byte> weight;
  if (info.block_length == 1) {
    std::vector<float> values(static_cast<size_t>(rows * k));
    for (float& v : values) v = static_cast<float>(random.below(255) - 127);
    weight = quantized(type, values, rows, k);
  } else if (block_format(type).codebook) {
    weight.resize(static_cast<size_t>(rows * k / info.block_length) * info.block_bytes);
    random_blocks(type, 2, rows * k, weight.data());
    for (size_t at = 0; at < weight.size(); at += info.block_bytes) {
      set_block_scales(type, static_cast<float>(1 << block_format(type).d_shift), 0,
                       reinterpret_cast<uint8_t*>(weight.data() + at));
    }
  } else {
    const PanelFormat format = type;
    const PanelLayout layout = panel_layout(format);
    for (int64_t i = 0; i < rows * k / info.block_length; ++i) {
      BlockCodes codes;
      codes.d = format == PanelFormat::kMXFP4 ? 128 : 0x3c00;  // 1
      codes.m = random.below(2) == 0 ? 0x3c00 : 0x4000;
      for (int s = 0; s < layout.subs(); ++s) {
        const int scale = 1 + random.below(2);
        const bool offset = layout.scales == ScaleKind::kSix16 || layout.scales == ScaleKind::kSix8Split;
        codes.scale[s] = static_cast<uint8_t>(offset ? 32 + scale : format == PanelFormat::kQ6_K ? 256 - scale : scale);
        codes.min[s] = static_cast<uint8_t>(random.below(3));
      }
      const int codes_of = 1 << (layout.low_bits + layout.high_bits);
      for (int e = 0; e < layout.block; ++e) {
        codes.q[e] =
            static_cast<uint8_t>(format == PanelFormat::kQ8_0 ? random.below(255) - 127 : random.below(codes_of));
      }
      std::vector<std::byte> block(info.block_bytes);
      encode_block(format, codes, reinterpret_cast<uint8_t*>(block.data()));
      weight.insert(weight.end(), block.begin(), block.end());
    }
  }
  for (const int64_t n : {1, 3, 8, 9, 40}) {
    // Products of scales and entries of codebooks have more bits than bfloat16.
    if (n > CudaOps::kFewRows && block_format(type).codebook && block_format(type).table) break;
    std::vector<float> x(static_cast<size_t>(n * k));
    for (float& v : x) v = static_cast<float>(random.below(9) - 4);
    for (size_t i = 0; i < x.size(); i += 32) x[i] = 127;  // so that the scale of every block is 1
    const auto [want, got] = on_each(
        [&](Side& s) {
          const Linear w = s.linear(weight, type, rows, k, {});
          const Mat in = s.mat(x, n), y = s.poisoned(n, rows);
          s.run_linear(in, w, {n}, y);
          return s.values(y);
        },
        make_ref_ops(), host_ops());
    EXPECT_EQ(got, want) << n << " columns";
  }
}

// A row's bits depend neither on its neighbours nor on the order in which threads run.
TEST_P(CudaTypes, RowsDoNotDependOnTheBatch) {
  const DType type = GetParam();
  Random random(3);
  const Product product(type, 24, cols(), 150, random);
  const auto compute = [&](HostDeviceOptions options, const std::vector<int64_t>& cuts) {
    return product.cut(host_ops(options), cuts);
  };
  const auto many = compute({}, {150});
  EXPECT_EQ(compute({.order = host::Order::kReverse}, {9, 100, 41}), many);
  EXPECT_EQ(compute({.order = host::Order::kRandom, .n_multiprocessors = 1}, {128, 22}), many);
  const auto few = compute({}, std::vector<int64_t>(150, 1));
  std::vector<int64_t> groups;
  for (int i = 0; i < 150 / 15; ++i) groups.insert(groups.end(), {8, 2, 5});
  EXPECT_EQ(compute({.order = host::Order::kRandom, .seed = 5, .n_multiprocessors = 1}, groups), few);
  if (type == DType::kF32) {
    EXPECT_EQ(few, many);
  }
}

// Blocks that take pair after pair, and warps tile after tile: one row and several, whose sums are the same.
TEST_P(CudaTypes, RowsOfManyTilesAndPairsDoNotDependOnTheBatch) {
  const DType type = GetParam();
  Random random(13);
  // Warps have one and two, or two and three column tiles; blocks of the one multiprocessor up to seven pairs.
  for (const auto& [rows, k] : {std::pair<int64_t, int64_t>(209, 1280), {40, 2816}}) {
    const Product product(type, rows, k, 8, random);
    const auto one = product.cut(host_ops(), std::vector<int64_t>(8, 1));
    EXPECT_EQ(product.cut(host_ops({.n_multiprocessors = 1}), std::vector<int64_t>(8, 1)), one);
    EXPECT_EQ(product.cut(host_ops({.order = host::Order::kRandom, .n_multiprocessors = 1}), {8}), one);
    EXPECT_EQ(product.cut(host_ops({.order = host::Order::kReverse}), {3, 5}), one);
    ErrorSum error;
    error.add(one, product.cut(make_ref_ops(), {8}));
    EXPECT_LE(error.value(), limit_of(type, 1));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaTypes, ::testing::ValuesIn(weight_types()),
                         [](const auto& type) { return std::string(dtype_name(type.param)); });

// ---- Fusions -----------------------------------------------------------------------------------------------------

TEST(CudaOps, ActivationsAndNormsMatchTheOracle) {
  Random random(4);
  constexpr int64_t kCols = 96, kRows = 40;
  const auto weight = quantized(DType::kF32, random.gaussian(kRows * kCols, 0.2f), kRows, kCols);
  const std::vector<float> scale = random.gaussian(kCols), shift = random.gaussian(kCols);
  for (const auto kind : {Norm::Kind::kNone, Norm::Kind::kRms, Norm::Kind::kLayer}) {
    for (const int64_t width : {kCols, kCols / 4}) {  // in one piece, in four
      for (const auto activation : {Activation::kNone, Activation::kQuickGelu, Activation::kGeluErf,
                                    Activation::kGeluTanh, Activation::kSilu}) {
        for (const int64_t n : {1, 6, 12}) {
          const std::vector<float> x = random.gaussian(n * kCols);
          const auto [want, got] = on_each(
              [&](Side& s) {
                const Linear w = s.linear(weight, DType::kF32, kRows, kCols, {});
                const Norm norm = kind == Norm::Kind::kNone ? Norm{} : s.norm(kind, width, scale, shift);
                const Mat in = s.mat(x, n), y = s.poisoned(n, kRows);
                s.run([&] { s->norm_linear(in, norm, w, activation, y); });
                return s.values(y);
              },
              make_ref_ops(), host_ops());
          EXPECT_LE(nmse(got, want), 1e-11) << static_cast<int>(kind) << static_cast<int>(activation) << n;
        }
      }
    }
  }
}

// Norms of rows that take several turns of a block, more than it has in registers too, alone and side by side.
TEST(CudaOps, NormsOfLongRowsDoNotDependOnTheBatch) {
  Random random(15);
  for (const auto& [type, k] : {std::pair<DType, int64_t>(DType::kQ4_K, 4352),
                                {DType::kQ8_0, 10528},
                                {DType::kF16, 2085},
                                {DType::kF32, 10500}}) {
    constexpr int64_t kRows = 24;
    const auto weight = quantized(type, random.gaussian(kRows * k, 0.1f), kRows, k);
    const std::vector<float> scale = norm_weights(random, k), shift = random.gaussian(k), x = random.gaussian(8 * k);
    for (const auto kind : {Norm::Kind::kRms, Norm::Kind::kLayer}) {
      SCOPED_TRACE(std::string(dtype_name(type)) + (kind == Norm::Kind::kRms ? ", RMS" : ", layer"));
      const auto compute = [&](std::unique_ptr<Ops> ops, const std::vector<int64_t>& cuts) {
        Side s(std::move(ops));
        const Linear w = s.linear(weight, type, kRows, k, {});
        const Norm norm = s.norm(kind, k, scale, shift);
        const Mat in = s.mat(x, 8), out = s.poisoned(8, kRows);
        int64_t first = 0;
        for (const int64_t n : cuts) {
          s.run([&] { s->norm_linear(in.slice(first, n), norm, w, Activation::kNone, out.slice(first, n)); });
          first += n;
        }
        return s.values(out);
      };
      const auto one = compute(host_ops(), std::vector<int64_t>(8, 1));
      EXPECT_EQ(compute(host_ops({.order = host::Order::kReverse}), {8}), one);
      EXPECT_EQ(compute(host_ops({.order = host::Order::kRandom}), {2, 6}), one);
      ErrorSum error;
      error.add(one, compute(make_ref_ops(), {8}));
      EXPECT_LE(error.value(), limit_of(type, 1));
    }
  }
}

// One launch, in which every weight is read by one block: columns are side by side as far as shared memory goes.
TEST(CudaOps, UpToEightRowsReadTheWeightsTogether) {
  if (on_gpu()) GTEST_SKIP() << "needs devices of less shared memory";
  Random random(16);
  const Product product(DType::kQ4_K, 40, 2048, 8, random);
  const auto one = product.cut(host_ops(), std::vector<int64_t>(8, 1));
  struct Case {
    int max_shared_bytes;
    std::vector<int> columns;  // of 8 rows, 5, 4, 2, 1
  };
  for (const Case& c :
       {Case{227 << 10, {8, 8, 4, 4, 1}}, Case{16 << 10, {4, 4, 4, 4, 1}}, Case{6 << 10, {1, 1, 1, 1, 1}}}) {
    const auto device = std::make_shared<NotingDevice>(make_host_device({.max_shared_bytes = c.max_shared_bytes}));
    size_t i = 0;
    for (const int64_t n : {8, 5, 4, 2, 1}) {
      SCOPED_TRACE(std::to_string(n) + " rows, shared memory " + std::to_string(c.max_shared_bytes));
      std::vector<int64_t> cuts = {n};
      if (n < 8) cuts.push_back(8 - n);
      device->launches.clear();
      EXPECT_EQ(product.cut(must(CudaOps::create(device, 1)), cuts), one);
      const int columns = c.columns[i++];
      const auto launch = std::find_if(device->launches.begin(), device->launches.end(),
                                       [&](const auto& l) { return l.kernel == gemv_kernel(DType::kQ4_K, columns); });
      ASSERT_NE(launch, device->launches.end());
      EXPECT_EQ(launch->shape.grid[1], (n + columns - 1) / columns);
    }
  }
}

TEST(CudaOps, SwigluMatchesTheOracle) {
  Random random(5);
  const SwigluCase swiglu(random);
  for (const auto& [type_gate, type_up] : {std::pair(DType::kQ4_K, DType::kQ4_K), std::pair(DType::kF32, DType::kF32),
                                           std::pair(DType::kQ8_0, DType::kQ6_K)}) {
    for (const int64_t n : {1, 7, 33}) {
      const std::vector<float> x = random.gaussian(n * SwigluCase::kCols);
      const auto [want, got] =
          on_each([&](Side& s) { return swiglu.run(s, type_gate, type_up, s.mat(x, n)); }, make_ref_ops(), host_ops());
      // A product of two: the errors of both.
      EXPECT_LE(nmse(got, want), 4 * limit_of(type_gate, n)) << n;
    }
  }
}

struct QkvCase {
  int64_t n_heads, n_kv_heads, head_dim;
  DType q, k, v;
};

TEST(CudaOps, ProjectionsAreRotatedAndCached) {
  Random random(6);
  constexpr int64_t kCols = 256, kPast = 5;
  const QkvCase cases[] = {{4, 2, 16, DType::kF32, DType::kF32, DType::kF32},
                           {3, 1, 12, DType::kF32, DType::kF32, DType::kF32},  // halves of 6 are no whole tiles
                           {2, 2, 80, DType::kBF16, DType::kBF16, DType::kBF16},
                           {6, 1, 128, DType::kQ4_K, DType::kQ8_0, DType::kQ6_K},
                           {4, 2, 32, DType::kQ4_K, DType::kQ4_K, DType::kQ4_K},  // blocks go from one to the next
                           {2, 1, 10, DType::kQ4_K, DType::kQ4_K, DType::kQ6_K}};
  for (const QkvCase& c : cases) {
    const int64_t q_rows = c.n_heads * c.head_dim, kv_rows = c.n_kv_heads * c.head_dim;
    const std::vector<float> wq = random.gaussian(q_rows * kCols), wk = random.gaussian(kv_rows * kCols),
                             wv = random.gaussian(kv_rows * kCols), bias = random.gaussian(q_rows),
                             scale = norm_weights(random, kCols);
    for (const KvElement element : {KvElement::kF32, KvElement::kBf16, KvElement::kF16, KvElement::kQ8_0}) {
      ErrorSum q_error[2], k_error[2], v_error[2];  // of few rows, of many
      for (const int64_t n : {1, 3, 8, 20}) {
        SCOPED_TRACE(std::to_string(c.head_dim) + ", " + std::to_string(n));
        const std::vector<float> x = random.gaussian(n * kCols);
        std::vector<float> cos, sin;
        for (const float angle : random.gaussian(n * c.head_dim / 2)) {
          cos.push_back(std::cos(angle));
          sin.push_back(std::sin(angle));
        }
        std::vector<float> q[2], k[2], v[2];
        Side sides[2] = {Side(make_ref_ops()), Side(host_ops())};
        for (size_t i = 0; i < 2; ++i) {
          Side& s = sides[i];
          QkvWeights w{s.linear(quantized(c.q, wq, q_rows, kCols), c.q, q_rows, kCols, bias),
                       s.linear(quantized(c.k, wk, kv_rows, kCols), c.k, kv_rows, kCols, {}),
                       s.linear(quantized(c.v, wv, kv_rows, kCols), c.v, kv_rows, kCols,
                                std::vector<float>(bias.begin(), bias.begin() + kv_rows)),
                       c.n_heads,
                       c.n_kv_heads,
                       c.head_dim};
          const Norm norm = s.norm(Norm::Kind::kRms, kCols, scale, {});
          const auto kv = must(s->make_kv(c.n_kv_heads, c.head_dim, 40, element));
          const Mat in = s.mat(x, n), out = s.poisoned(n, q_rows), cosines = s.mat(cos, n), sines = s.mat(sin, n);
          const glimpse::Segment rows{.kv = kv.get(), .n_rows = n, .n_past = kPast};
          s.run([&] { s->norm_qkv(in, norm, w, RopeTable{cosines, sines}, std::span(&rows, 1), out); });
          q[i] = s.values(out);
          for (int64_t r = 0; r < n; ++r) {
            for (int64_t h = 0; h < c.n_kv_heads; ++h) {
              std::vector<float> key(static_cast<size_t>(c.head_dim)), value(key.size());
              kv->read(h, kPast + r, key.data(), value.data());
              k[i].insert(k[i].end(), key.begin(), key.end());
              v[i].insert(v[i].end(), value.begin(), value.end());
            }
          }
          std::vector<float> key(static_cast<size_t>(c.head_dim)), value(key.size());
          kv->read(0, kPast + n, key.data(), value.data());
          EXPECT_EQ(key, std::vector<float>(key.size())) << "a position that nobody wrote";
        }
        const bool many = n > CudaOps::kFewRows;
        q_error[many].add(q[1], q[0]);
        k_error[many].add(k[1], k[0]);
        v_error[many].add(v[1], v[0]);
      }
      for (const int64_t n : {1, 20}) {
        SCOPED_TRACE(std::to_string(c.head_dim) + ", " + std::to_string(n) + " rows");
        // Half a unit in the last place, squared; of q8_0, a 127th of the greatest of 32, squared, over 12.
        const double rounding = element == KvElement::kBf16   ? 0x1p-16
                                : element == KvElement::kF16  ? 0x1p-22
                                : element == KvElement::kQ8_0 ? 4e-5
                                                              : 0;
        EXPECT_LE(q_error[n > 1].value(), limit_of(c.q, n));
        EXPECT_LE(k_error[n > 1].value(), limit_of(c.k, n) + rounding);
        EXPECT_LE(v_error[n > 1].value(), limit_of(c.v, n) + rounding);
      }
    }
  }
}

// Of one row, two formats among Q, K and V are one launch where there is a kernel for them: the bits are those of
// several rows, which have a launch for each.
TEST(CudaOps, MatricesOfTwoFormatsShareALaunchOfOneRow) {
  constexpr int64_t kHidden = 512;
  const HeadShape shape{6, 2, 16};
  struct Case {
    DType q, k, v;
    int n_launches;
  };
  constexpr DType kQ4 = DType::kQ4_K, kQ5 = DType::kQ5_K, kQ6 = DType::kQ6_K, kQ8 = DType::kQ8_0;
  for (const Case& c : {Case{kQ4, kQ4, kQ6, 1}, Case{kQ6, kQ4, kQ4, 1}, Case{kQ5, kQ6, kQ5, 1}, Case{kQ4, kQ6, kQ6, 1},
                        Case{kQ4, kQ8, kQ6, 2}, Case{kQ4, kQ5, kQ6, 2}, Case{kQ4, kQ4, kQ8, 2}}) {
    for (const int n_multiprocessors : {1, 4}) {
      SCOPED_TRACE(std::string(dtype_name(c.q)) + " " + dtype_name(c.k) + " " + dtype_name(c.v));
      const auto device =
          std::make_shared<NotingDevice>(std::make_shared<OtherDevice>(test_device({}), false, n_multiprocessors));
      Side s(must(CudaOps::create(device, 1)));
      Random random(31);
      std::vector<DType> types = {c.q, c.k, c.v};
      size_t at = 0;
      const QkvWeights w = qkv_weights(shape, [&](int64_t rows) {
        const DType type = types[at++];
        return s.linear(quantized(type, random.gaussian(rows * kHidden), rows, kHidden), type, rows, kHidden,
                        random.gaussian(rows));
      });
      const Norm norm = s.norm(Norm::Kind::kRms, kHidden, norm_weights(random, kHidden), {});
      const Mat x = s.mat(random.gaussian(2 * kHidden), 2), alone = s.poisoned(1, 96), both = s.poisoned(2, 96);
      const RopeTable rope{s.mat(random.gaussian(16), 2), s.mat(random.gaussian(16), 2)};
      const auto kv = must(s->make_kv(2, 16, 8, KvElement::kF32)), other = must(s->make_kv(2, 16, 8, KvElement::kF32));
      const glimpse::Segment one{.kv = kv.get(), .n_rows = 1}, two{.kv = other.get(), .n_rows = 2};
      device->launches.clear();
      s.run([&] {
        s->norm_qkv(x.slice(0, 1), norm, w, RopeTable{rope.cos.slice(0, 1), rope.sin.slice(0, 1)}, std::span(&one, 1),
                    alone);
      });
      EXPECT_EQ(device->launches.size(), static_cast<size_t>(c.n_launches));
      s.run([&] { s->norm_qkv(x, norm, w, rope, std::span(&two, 1), both); });
      EXPECT_EQ(s.values(alone), s.values(both.slice(0, 1)));
      std::vector<float> got(32), want(32);
      for (int64_t head = 0; head < 2; ++head) {
        kv->read(head, 0, got.data(), got.data() + 16);
        other->read(head, 0, want.data(), want.data() + 16);
        EXPECT_EQ(got, want);
      }
    }
  }
}

// Conversations share launches with those that the same kernels would take alone.
TEST(CudaOps, SegmentsShareLaunchesWhereThatChangesNoKernel) {
  const auto ops = host_ops();
  const auto kv = must(ops->make_kv(1, 16, 64, KvElement::kF16)),
             other = must(ops->make_kv(1, 16, 64, KvElement::kF32));
  using glimpse::Segment;
  const auto lengths = [](std::vector<Segment> segments) {
    std::vector<size_t> out;
    for (Segments left = segments; !left.empty(); left = left.subspan(out.back())) {
      out.push_back(taken_together(left).size());
    }
    return out;
  };
  const auto rows = [&](const std::vector<int64_t>& counts) {
    std::vector<Segment> segments;
    int64_t first = 0;
    for (const int64_t n : counts) {
      segments.push_back({.kv = kv.get(), .first_row = first, .n_rows = n});
      first += n;
    }
    return segments;
  };
  using Lengths = std::vector<size_t>;
  EXPECT_EQ(lengths(rows({5})), Lengths({1}));
  EXPECT_EQ(lengths(rows({1, 1, 1, 1, 1, 1, 1, 1, 1, 1})), Lengths({8, 2}));
  EXPECT_EQ(lengths(rows({5, 4, 3})), Lengths({1, 2}));  // nine rows are many
  EXPECT_EQ(lengths(rows({1, 0, 2, 9, 30, 8})), Lengths({3, 2, 1}));
  EXPECT_EQ(lengths(rows({9, 9, 9, 9, 9, 9, 9, 9, 9})), Lengths({8, 1}));
  std::vector<Segment> few = rows({1, 1, 1});
  few[1].kv = other.get();
  EXPECT_EQ(lengths(few), Lengths({1, 1, 1}));
  few = rows({1, 1, 1});
  few[2].causal = false;
  EXPECT_EQ(lengths(few), Lengths({2, 1}));
  few = rows({1, 1, 1});
  few[0].first_row = 3;
  EXPECT_EQ(lengths(few), Lengths({1, 2}));
}

TEST(CudaOps, EmbedLeavesRowsWithoutAToken) {
  Side s(host_ops());
  const auto table = must(s->pack(source_of(quantized(DType::kF32, {1, 2, 3, 4, 5, 6}, 3, 2), DType::kF32, 3, 2),
                                  WeightPrecision::kAsStored));
  const Mat x = s.mat({7, 7, 8, 8, 9, 9}, 3);
  const int32_t ids[3] = {2, -1, 0};
  s.run([&] { s->embed(*table, ids, x); });
  EXPECT_EQ(s.values(x), (std::vector<float>{5, 6, 8, 8, 1, 2}));
}

TEST(CudaOps, AllFiniteSeesEveryElement) {
  Random random(7);
  Side s(host_ops());
  const std::vector<float> x = random.gaussian(15);
  s.run([&] { EXPECT_TRUE(s->all_finite(s.mat(x, 3))); });
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    for (size_t i = 0; i < x.size(); ++i) {
      std::vector<float> y = x;
      y[i] = bad;
      const Mat m = s.mat(y, 3);
      s.run([&] {
        EXPECT_FALSE(s->all_finite(m));
        EXPECT_EQ(s->all_finite(m.slice(0, 1)), i >= 5);
      });
    }
  }
}

TEST(CudaOps, NonFiniteInputsStayNonFinite) {
  Random random(8);
  for (const int64_t n : {1, 12}) {
    for (const float bad : {INFINITY, NAN}) {
      Side s(host_ops());
      const Linear w = s.linear(quantized(DType::kQ4_K, random.gaussian(16 * 256), 16, 256), DType::kQ4_K, 16, 256, {});
      std::vector<float> x = random.gaussian(n * 256);
      x[77] = bad;
      const Mat in = s.mat(x, n), out = s.mat(std::vector<float>(static_cast<size_t>(16 * n)), n);
      s.run([&] {
        s->norm_linear(in, Norm{}, w, Activation::kNone, out);
        EXPECT_FALSE(s->all_finite(out.slice(0, 1)));
      });
    }
  }
}

TEST(CudaOps, TransfersOfAnySizeArriveWhole) {
  Side s(host_ops());
  std::vector<float> values(3'000'001);  // more than the staging memory
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  EXPECT_EQ(s.values(s.mat(values, 1)), values);
}

TEST(CudaOps, DescribesItsDevice) {
  const std::string text = host_ops()->describe();
  EXPECT_EQ(text.rfind("cuda ", 0), 0u) << text;
  if (!on_gpu()) {
    EXPECT_EQ(text, "cuda host executor");
  }
}

// A kernel that the device refuses is an error of the pass, with the kernel's name; nothing after it runs.
TEST(CudaOps, LaunchErrorsNameTheKernel) {
  if (on_gpu()) GTEST_SKIP() << "needs a device of little shared memory";
  HostDeviceOptions options;
  options.max_shared_bytes = 60 << 10;  // less than the tiles of a matrix product take
  Side s(host_ops(options));
  Random random(9);
  const Linear w = s.linear(quantized(DType::kQ4_0, random.gaussian(16 * 64), 16, 64), DType::kQ4_0, 16, 64, {});
  const Mat in = s.mat(random.gaussian(9 * 64), 9), out = s.poisoned(9, 16);
  const Status status = s->run([&] { s->norm_linear(in, Norm{}, w, Activation::kNone, out); });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kDevice);
  EXPECT_NE(status.error().message.find("gemm_q4_0"), std::string::npos) << status.error().message;
  EXPECT_OK(s->run([&] { s->norm_linear(in.slice(0, 8), Norm{}, w, Activation::kNone, out.slice(0, 8)); }));
}

}  // namespace
}  // namespace glimpse::cuda
