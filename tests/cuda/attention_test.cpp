// Attention on the host executor against RefOps: both kernels, both kinds of cache, every way to share the keys out.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_support.h"

namespace glimpse::cuda {
namespace {

using Shape = HeadShape;

constexpr int64_t kWidth = 32;  // of the rows that queries, keys and values are projections of

// Queries, keys and values written through norm_qkv: x (n_positions, kWidth).
class Attention {
 public:
  Attention(std::unique_ptr<Ops> ops, const Shape& shape, KvElement element, const std::vector<float>& x,
            int64_t n_positions)
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
    kv_ = must(ops_->make_kv(shape.n_kv_heads, shape.head_dim, n_positions, element));
    in_ = buffer(*ops_, x);
    q_ = must(ops_->allocate(n_positions * q_rows, "q"));
    const int64_t half = shape.head_dim / 2;
    const auto one = buffer(*ops_, std::vector<float>(static_cast<size_t>(n_positions * half), 1.0f));
    const auto zero = buffer(*ops_, std::vector<float>(static_cast<size_t>(n_positions * half), 0.0f));
    const glimpse::Segment all{.kv = kv_.get(), .n_rows = n_positions};
    EXPECT_OK(ops_->run([&] {
      ops_->norm_qkv(
          Mat::contiguous(in_->data, n_positions, kWidth), Norm{}, w,
          RopeTable{Mat::contiguous(one->data, n_positions, half), Mat::contiguous(zero->data, n_positions, half)},
          std::span(&all, 1), Mat::contiguous(q_->data, n_positions, q_rows));
    }));
  }

  /// Rows [first, first + count) of the positions as queries.
  std::vector<float> attend(int64_t first, int64_t count, bool causal = true) {
    const int64_t width = shape_.n_heads * shape_.head_dim;
    const auto out = buffer(*ops_, std::vector<float>(static_cast<size_t>(count * width), NAN));
    const glimpse::Segment rows{.kv = kv_.get(), .n_rows = count, .n_past = first, .causal = causal};
    EXPECT_OK(ops_->run([&] {
      ops_->attention(Mat::contiguous(q_->data + first * width, count, width), shape_.n_heads, std::span(&rows, 1),
                      Mat::contiguous(out->data, count, width));
    }));
    std::vector<float> values(static_cast<size_t>(count * width));
    ops_->download(out->data, count * width, values.data());
    return values;
  }

 private:
  std::unique_ptr<Ops> ops_;
  Shape shape_;
  std::unique_ptr<KvStore> kv_;
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
        Attention a(host_ops({.order = order}), shape, element, x, kPositions);
        std::vector<float> all;
        int64_t first = 0;
        for (const int64_t count : cuts) {
          const auto part = a.attend(first, count);
          all.insert(all.end(), part.begin(), part.end());
          first += count;
        }
        return all;
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

TEST(CudaAttention, RefusesHeadsThatAreTooWide) {
  const auto kv = host_ops()->make_kv(1, 256, 256, KvElement::kBf16);
  ASSERT_FALSE(kv.ok());
  EXPECT_EQ(kv.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace glimpse::cuda
