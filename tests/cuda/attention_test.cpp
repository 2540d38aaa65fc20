// Attention on the host executor against RefOps: every kernel, every kind of cache, every way to share the keys out;
// that of warpgroups also against that of other devices, whose sums it has.
#include <gtest/gtest.h>

#include <string_view>
#include <utility>

#include "tests/cuda/side.h"

namespace glimpse::cuda {
namespace {

using Shape = HeadShape;

constexpr int64_t kWidth = 32;  // of the rows that queries, keys and values are projections of

// Queries, keys and values written through norm_qkv: x (n_positions, kWidth). paged: into the pages of a pool, the
// later positions in the earlier pages.
class Attention {
 public:
  Attention(std::unique_ptr<Ops> ops, const Shape& shape, KvElement element, const std::vector<float>& x,
            int64_t n_positions, bool paged = false)
      : ops_(std::move(ops)), shape_(shape) {
    const int64_t q_rows = shape.n_heads * shape.head_dim;
    Random random(77);
    const auto projection = [&](int64_t rows) {
      const std::vector<float> w = random.gaussian(rows * kWidth, 1.5f / std::sqrt(static_cast<float>(kWidth)));
      return Linear{must(ops_->pack(source_of(quantized(DType::kF32, w, rows, kWidth), DType::kF32, rows, kWidth),
                                    WeightPrecision::kAsStored)),
                    nullptr};
    };
    const QkvWeights w = qkv_weights(shape, projection);
    if (paged) {
      const KvShape layer{shape.n_kv_heads, shape.head_dim, element, {}};
      const auto n_pages = static_cast<int32_t>((n_positions + kKeyBlock - 1) / kKeyBlock);
      pool_ = must(ops_->make_kv_pool(std::span(&layer, 1), n_pages));
      table_ = must(pool_->make_table(n_pages));
      for (int32_t i = 0; i < n_pages; ++i) EXPECT_OK(table_->set(i, n_pages - 1 - i));
      kv_ = table_->layer(0);
    } else {
      own_kv_ = must(ops_->make_kv(shape.n_kv_heads, shape.head_dim, n_positions, element));
      kv_ = own_kv_.get();
    }
    in_ = buffer(*ops_, x);
    q_ = must(ops_->allocate(n_positions * q_rows, "q"));
    const int64_t half = shape.head_dim / 2;
    const auto one = buffer(*ops_, std::vector<float>(static_cast<size_t>(n_positions * half), 1.0f));
    const auto zero = buffer(*ops_, std::vector<float>(static_cast<size_t>(n_positions * half), 0.0f));
    const glimpse::Segment all{.kv = kv_, .n_rows = n_positions};
    EXPECT_OK(ops_->run([&] {
      ops_->norm_qkv(
          Mat::contiguous(in_->data, n_positions, kWidth), Norm{}, w,
          RopeTable{Mat::contiguous(one->data, n_positions, half), Mat::contiguous(zero->data, n_positions, half)},
          std::span(&all, 1), Mat::contiguous(q_->data, n_positions, q_rows));
    }));
  }

  /// Rows [first, first + count) of the positions as queries.
  std::vector<float> attend(int64_t first, int64_t count, bool causal = true) {
    const glimpse::Segment rows{.kv = kv_, .n_rows = count, .n_past = first, .causal = causal};
    const int64_t width = shape_.n_heads * shape_.head_dim;
    return attend(std::span(&rows, 1), Mat::contiguous(q_->data + first * width, count, width));
  }
  /// All positions, so many at a time.
  std::vector<float> attend_in_turn(const std::vector<int64_t>& counts) {
    std::vector<float> all;
    int64_t first = 0;
    for (const int64_t count : counts) {
      const std::vector<float> part = attend(first, count);
      all.insert(all.end(), part.begin(), part.end());
      first += count;
    }
    return all;
  }
  /// All positions, in pieces of so many (but for the last, multiples of 8) that see themselves alone.
  std::vector<float> attend_windows(const std::vector<int64_t>& counts) {
    std::vector<glimpse::Segment> windows;
    int64_t first = 0;
    for (const int64_t count : counts) {
      windows.push_back(
          {.kv = kv_, .first_row = first, .n_rows = count, .n_past = first, .first_key = first, .causal = false});
      first += count;
    }
    return attend(windows, Mat::contiguous(q_->data, first, shape_.n_heads * shape_.head_dim));
  }
  /// All n positions, from queries whose rows do not begin at even addresses.
  std::vector<float> attend_oddly(int64_t n) {
    const int64_t width = shape_.n_heads * shape_.head_dim;
    std::vector<float> values(static_cast<size_t>(n * width)), apart(static_cast<size_t>(n * (width + 1) + 1));
    ops_->download(q_->data, n * width, values.data());
    for (int64_t i = 0; i < n * width; ++i) {
      apart[static_cast<size_t>(1 + i / width * (width + 1) + i % width)] = values[static_cast<size_t>(i)];
    }
    const auto odd = buffer(*ops_, apart);
    Mat q = Mat::contiguous(odd->data + 1, n, width);
    q.ld = width + 1;
    const glimpse::Segment rows{.kv = kv_, .n_rows = n};
    return attend(std::span(&rows, 1), q);
  }

 private:
  std::vector<float> attend(Segments segments, Mat q) {
    const auto out = buffer(*ops_, std::vector<float>(static_cast<size_t>(q.rows * q.cols), NAN));
    EXPECT_OK(
        ops_->run([&] { ops_->attention(q, shape_.n_heads, segments, Mat::contiguous(out->data, q.rows, q.cols)); }));
    std::vector<float> values(static_cast<size_t>(q.rows * q.cols));
    ops_->download(out->data, q.rows * q.cols, values.data());
    return values;
  }

  std::unique_ptr<Ops> ops_;
  Shape shape_;
  std::unique_ptr<KvPool> pool_;
  std::unique_ptr<KvTable> table_;
  std::unique_ptr<KvStore> own_kv_;
  KvStore* kv_ = nullptr;
  std::shared_ptr<const BackendBuffer> in_;
  std::unique_ptr<BackendBuffer> q_;
};

constexpr KvElement kCaches[] = {KvElement::kF32, KvElement::kBf16, KvElement::kF16, KvElement::kQ8_0};
const Shape kShapes[] = {{1, 1, 16}, {2, 2, 80}, {6, 1, 128}, {3, 3, 10}, {10, 1, 32}, {4, 2, 72}};

// Three bits more than bfloat16: a 64th of the squared error. q8_0: as on the CPU (tests/engine/golden_backends.h).
double limit_of(KvElement element) {
  if (element == KvElement::kQ8_0) return 2e-4;
  return element == KvElement::kF32 ? 1e-11 : element == KvElement::kF16 ? 5e-5 / 64 : 5e-5;
}

TEST(CudaAttention, MatchesTheOracle) {
  Random random(1);
  for (const Shape& shape : kShapes) {
    for (const KvElement element : kCaches) {
      ErrorSum error[2];  // of few rows, of many
      for (const int64_t n : {1, 64, 127, 129, 300}) {
        const std::vector<float> x = random.gaussian(n * kWidth);
        Attention want(make_ref_ops(), shape, KvElement::kF32, x, n), got(host_ops(), shape, element, x, n);
        for (const int64_t count : {int64_t{1}, int64_t{8}, int64_t{9}, n}) {
          if (count > n) continue;
          ErrorSum& sum = error[count > CudaOps::kFewRows];
          for (const bool causal : {true, false}) {
            sum.add(got.attend(n - count, count, causal), want.attend(n - count, count, causal));
          }
        }
      }
      for (const bool many : {false, true}) {
        EXPECT_LE(error[many].value(), limit_of(element))
            << kv_element_name(element) << ", head_dim " << shape.head_dim << (many ? ", many rows" : ", few rows");
      }
    }
  }
}

// Few rows: alone or together, keys shared out or not, threads in any order. Many rows: cut anywhere.
TEST(CudaAttention, RowsDoNotDependOnTheBatch) {
  Random random(2);
  for (const Shape& shape : {Shape{6, 1, 32}, Shape{2, 2, 80}}) {
    for (const KvElement element : kCaches) {
      constexpr int64_t kPositions = 290;
      const std::vector<float> x = random.gaussian(kPositions * kWidth);
      const auto rows = [&](host::Order order, const std::vector<int64_t>& cuts) {
        return Attention(host_ops({.order = order}), shape, element, x, kPositions).attend_in_turn(cuts);
      };
      const auto many = rows(host::Order::kForward, {290});
      EXPECT_EQ(rows(host::Order::kReverse, {64, 9, 100, 117}), many);
      EXPECT_EQ(rows(host::Order::kRandom, {150, 140}), many);
      std::vector<int64_t> singles(290, 1), groups;
      for (int i = 0; i < 29; ++i) groups.insert(groups.end(), {7, 3});
      const auto few = rows(host::Order::kForward, singles);
      EXPECT_EQ(rows(host::Order::kRandom, groups), few);
      // One kernel; many rows walk over the keys, few share them.
      if (element == KvElement::kF32) {
        EXPECT_EQ(few, many);
      }
    }
  }
}

TEST(CudaAttention, LargeScoresDoNotOverflow) {
  Random random(3);
  constexpr int64_t kPositions = 200;
  const std::vector<float> x = random.gaussian(kPositions * kWidth, 3000.0f);
  for (const KvElement element : kCaches) {
    Attention a(host_ops(), {1, 1, 16}, element, x, kPositions);
    for (const int64_t count : {5, 200}) {
      const auto out = a.attend(kPositions - count, count);
      const auto first = a.attend(0, 1);  // sees one key: its value
      for (const float v : first) EXPECT_TRUE(std::isfinite(v));
      // Scores of millions leave one key each: every output is somebody's value.
      for (const float v : out) EXPECT_TRUE(std::isfinite(v) && std::abs(v) < 30000);
    }
  }
}

class WarpgroupAttention : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test_device({.warpgroups = true})->has_warpgroups()) GTEST_SKIP() << "this GPU has no warpgroups";
  }
  // On a GPU the sum inside a step of 16 has an order of its own, and weights and queries are rounded behind it.
  static void expect_same(const std::vector<float>& got, const std::vector<float>& portable) {
    if (on_gpu()) {
      EXPECT_LE(nmse(got, portable), 1e-6);
    } else {
      EXPECT_EQ(got, portable);
    }
  }
};

// Rows that end inside a block, and a warpgroup without any; query heads that share keys; heads that fill their
// kernel's width and others; rings that begin anew.
TEST_F(WarpgroupAttention, HasTheBitsOfOtherDevices) {
  Random random(11);
  struct Case {
    Shape shape;
    int64_t n, rows;
    bool causal;
    KvElement element;
  };
  constexpr KvElement kBf16 = KvElement::kBf16, kF16 = KvElement::kF16;
  const Case cases[] = {
      {{1, 1, 64}, 200, 200, true, kBf16},  {{6, 1, 128}, 70, 61, true, kF16},   {{8, 1, 64}, 33, 20, false, kF16},
      {{2, 2, 80}, 130, 130, false, kBf16}, {{4, 2, 72}, 65, 65, true, kBf16},   {{1, 1, 128}, 420, 10, true, kBf16},
      {{1, 1, 80}, 600, 9, false, kF16},    {{1, 1, 96}, 129, 129, false, kF16}, {{2, 1, 40}, 100, 66, true, kBf16},
      {{1, 1, 80}, 64, 64, false, kBf16},   {{1, 1, 64}, 128, 128, true, kF16}};
  for (const Case& c : cases) {
    SCOPED_TRACE("head_dim " + std::to_string(c.shape.head_dim) + ", " + std::to_string(c.n) + " keys, " +
                 std::to_string(c.rows) + " rows");
    const std::vector<float> x = random.gaussian(c.n * kWidth);
    const auto rows_of = [&](std::unique_ptr<Ops> ops, KvElement element) {
      return Attention(std::move(ops), c.shape, element, x, c.n).attend(c.n - c.rows, c.rows, c.causal);
    };
    const std::vector<float> got = rows_of(warpgroup_ops(), c.element), want = rows_of(make_ref_ops(), KvElement::kF32);
    expect_same(got, rows_of(portable_ops(), c.element));
    EXPECT_LE(nmse(got, want), limit_of(c.element));
  }
}

TEST_F(WarpgroupAttention, RowsDoNotDependOnTheBatch) {
  Random random(12);
  constexpr int64_t kPositions = 210;
  const Shape shape{2, 1, 80};
  const std::vector<float> x = random.gaussian(kPositions * kWidth);
  const auto rows = [&](host::Order order, const std::vector<int64_t>& cuts, bool paged = false) {
    return Attention(warpgroup_ops({.order = order}), shape, KvElement::kBf16, x, kPositions, paged)
        .attend_in_turn(cuts);
  };
  const std::vector<float> whole = rows(host::Order::kForward, {kPositions});
  EXPECT_EQ(rows(host::Order::kReverse, {64, 9, 137}), whole);
  EXPECT_EQ(rows(host::Order::kRandom, {129, 81}, true), whole);
}

// Keys in two pages, and unwritten slots between them and the end of a block of keys.
TEST_F(WarpgroupAttention, CrossesPages) {
  Random random(13);
  constexpr int64_t kPositions = 330;
  for (const Shape& shape : {Shape{2, 1, 128}, Shape{1, 1, 80}}) {
    const std::vector<float> x = random.gaussian(kPositions * kWidth);
    std::vector<float> results[2];
    for (const bool paged : {false, true}) {
      Attention a(warpgroup_ops(), shape, KvElement::kF16, x, kPositions, paged);
      results[paged] = a.attend(kPositions - 80, 80);
    }
    EXPECT_EQ(results[1], results[0]);
  }
}

TEST_F(WarpgroupAttention, WindowsSeeThemselvesAlone) {
  Random random(14);
  const std::vector<int64_t> counts = {64, 24, 136, 16, 16, 16, 16, 16, 16, 13};  // more than a launch takes
  const int64_t n = 333;
  const std::vector<float> x = random.gaussian(n * kWidth);
  for (const Shape& shape : {Shape{2, 2, 80}, Shape{1, 1, 64}}) {
    const auto windows_of = [&](std::unique_ptr<Ops> ops, KvElement element) {
      return Attention(std::move(ops), shape, element, x, n).attend_windows(counts);
    };
    const std::vector<float> got = windows_of(warpgroup_ops(), KvElement::kBf16);
    expect_same(got, windows_of(portable_ops(), KvElement::kBf16));
    EXPECT_LE(nmse(got, windows_of(make_ref_ops(), KvElement::kF32)), limit_of(KvElement::kBf16));
  }
}

TEST_F(WarpgroupAttention, TakesQueriesAtAnyAddress) {
  Random random(15);
  const std::vector<float> x = random.gaussian(20 * kWidth);
  Attention a(warpgroup_ops(), {2, 1, 80}, KvElement::kF16, x, 20);
  EXPECT_EQ(a.attend_oddly(20), a.attend(0, 20));
}

// One launch for the rows of several stores: each row what it is alone.
TEST(CudaAttention, SegmentsShareALaunchAndKeepTheirBits) {
  const Shape shape{2, 1, 72};
  const int64_t width = shape.n_heads * shape.head_dim, half = shape.head_dim / 2;
  for (const bool warpgroups : {false, true}) {
    for (const KvElement element : {KvElement::kF16, KvElement::kQ8_0}) {
      Random random(17);
      Side s(warpgroups ? warpgroup_ops() : portable_ops());
      const QkvWeights w = qkv_weights(shape, [&](int64_t rows) {
        return s.linear(quantized(DType::kF32, random.gaussian(rows * kWidth, 0.25f), rows, kWidth), DType::kF32, rows,
                        kWidth, {});
      });
      std::vector<std::unique_ptr<KvStore>> stores;
      std::vector<glimpse::Segment> segments;
      int64_t n = 0;
      for (const int64_t count : {20, 70, 9, 129}) {
        stores.push_back(must(s->make_kv(shape.n_kv_heads, shape.head_dim, 136, element)));
        segments.push_back({.kv = stores.back().get(), .first_row = n, .n_rows = count});
        n += count;
      }
      const Mat x = s.mat(random.gaussian(n * kWidth), n), q = s.poisoned(n, width), together = s.poisoned(n, width),
                alone = s.poisoned(n, width);
      const RopeTable rope{s.mat(std::vector<float>(static_cast<size_t>(n * half), 1.0f), n),
                           s.mat(std::vector<float>(static_cast<size_t>(n * half), 0.0f), n)};
      s.run([&] {
        s->norm_qkv(x, Norm{}, w, rope, segments, q);
        s->attention(q, shape.n_heads, segments, together);
        for (glimpse::Segment segment : segments) {
          const int64_t first = std::exchange(segment.first_row, 0);
          s->attention(q.slice(first, segment.n_rows), shape.n_heads, std::span(&segment, 1),
                       alone.slice(first, segment.n_rows));
        }
      });
      EXPECT_EQ(s.values(together), s.values(alone));
      for (const float v : s.values(together)) ASSERT_TRUE(std::isfinite(v));
    }
  }
}

// As many launches as there are eights of segments, and in each the blocks of its rows.
TEST(CudaAttention, UpToEightSegmentsAreALaunch) {
  const Shape shape{1, 1, 64};
  Random random(18);
  constexpr int64_t kPositions = 288;
  const std::vector<float> x = random.gaussian(kPositions * kWidth);
  for (const bool warpgroups : {false, true}) {
    if (warpgroups && !test_device({.warpgroups = true})->has_warpgroups()) continue;
    const auto device = std::make_shared<NotingDevice>(
        std::make_shared<OtherDevice>(test_device({.warpgroups = warpgroups}), warpgroups, 4));
    Attention a(must(CudaOps::create(device, 1)), shape, KvElement::kF16, x, kPositions);
    const auto blocks_of = [&](const std::vector<int64_t>& counts) {
      device->launches.clear();
      a.attend_windows(counts);
      std::vector<int64_t> blocks;
      for (const NotingDevice::Launch& launch : device->launches) {
        if (std::string_view(kernel_info(launch.kernel).name).starts_with("attend")) {
          blocks.push_back(launch.shape.grid[0]);
        }
      }
      return blocks;
    };
    using Blocks = std::vector<int64_t>;
    EXPECT_EQ(blocks_of(std::vector<int64_t>(18, 16)), (Blocks{8, 8, 2}));  // windows of many rows
    EXPECT_EQ(blocks_of({136, 16, 129}), Blocks{warpgroups ? 2 + 1 + 2 : 3 + 1 + 3});
    // Few rows: a block's one row of each, up to kFewRows of them.
    EXPECT_EQ(blocks_of({8, 8}), (Blocks{8, 8}));
    EXPECT_EQ(blocks_of({24, 8, 24}), (Blocks{1, 8, 1}));
  }
}

// Keys and values that no row of the launch sees may be anything, those in the same block of keys too.
TEST_F(WarpgroupAttention, IgnoresWhatNoRowSees) {
  Random random(16);
  constexpr int64_t kPositions = 160, kSeen = 77;
  std::vector<float> x = random.gaussian(kPositions * kWidth);
  for (const Shape& shape : {Shape{1, 1, 80}, Shape{1, 1, 128}}) {
    std::vector<float> results[2];
    for (const bool poisoned : {false, true}) {
      for (size_t i = kSeen * kWidth; i < x.size(); ++i) x[i] = poisoned ? NAN : 1.0f;
      results[poisoned] = Attention(warpgroup_ops(), shape, KvElement::kBf16, x, kPositions).attend(0, kSeen);
    }
    EXPECT_EQ(results[1], results[0]);
  }
}

TEST(CudaAttention, RefusesHeadsThatAreTooWide) {
  const auto kv = host_ops()->make_kv(1, 256, 256, KvElement::kBf16);
  ASSERT_FALSE(kv.ok());
  EXPECT_EQ(kv.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace glimpse::cuda
