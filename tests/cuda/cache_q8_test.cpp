// Caches of q8_0: the CPU's codes and scales, and attention as over the values that they stand for.
#include <gtest/gtest.h>

#include "engine/base/half.h"
#include "kernels/attention/attention.h"
#include "tests/cuda/side.h"

namespace glimpse::cuda {
namespace {

constexpr int64_t kWidth = 32, kPast = 5;

using Shape = HeadShape;
// Heads whose halves are whole tiles and others, rows whose last block has 16 values and others.
const Shape kShapes[] = {{6, 1, 128}, {4, 2, 80}, {3, 3, 12}, {2, 1, 48}, {4, 2, 72}, {2, 2, 32}};

// Rows of x projected into a cache that starts at kPast, and the queries; identity rotations unless cosines are given.
class Filled {
 public:
  Filled(const Shape& shape, KvElement element, const std::vector<float>& x, host::Order order = host::Order::kForward)
      : side_(host_ops({.order = order})), shape_(shape), n_(static_cast<int64_t>(x.size()) / kWidth) {
    const int64_t q_rows = shape.n_heads * shape.head_dim;
    Random random(5);
    const auto projection = [&](int64_t rows) {
      return side_.linear(quantized(DType::kF32, random.gaussian(rows * kWidth, 0.25f), rows, kWidth), DType::kF32,
                          rows, kWidth, {});
    };
    const QkvWeights w = qkv_weights(shape, projection);
    std::vector<float> cosines, sines;
    for (const float angle : random.gaussian(n_ * shape.head_dim / 2)) {
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
    kv_ = must(side_->make_kv(shape.n_kv_heads, shape.head_dim, kPast + n_, element));
    q_ = side_.poisoned(n_, q_rows);
    const Mat in = side_.mat(x, n_);
    const RopeTable rope{side_.mat(cosines, n_), side_.mat(sines, n_)};
    const glimpse::Segment rows{.kv = kv_.get(), .n_rows = n_, .n_past = kPast};
    side_.run([&] { side_->norm_qkv(in, Norm{}, w, rope, std::span(&rows, 1), q_); });
  }

  struct Row {
    std::vector<float> key, value;
  };
  Row read(int64_t head, int64_t position) const {
    Row row{std::vector<float>(static_cast<size_t>(shape_.head_dim)),
            std::vector<float>(static_cast<size_t>(shape_.head_dim))};
    kv_->read(head, position, row.key.data(), row.value.data());
    return row;
  }
  std::vector<float> queries() { return side_.values(q_); }
  // The last `count` rows, which see no keys before first_key.
  std::vector<float> attend(int64_t count, int64_t first_key = 0) {
    const Mat out = side_.poisoned(count, q_.cols);
    const glimpse::Segment rows{.kv = kv_.get(), .n_rows = count, .n_past = kPast + n_ - count, .first_key = first_key};
    side_.run([&] { side_->attention(q_.slice(n_ - count, count), shape_.n_heads, std::span(&rows, 1), out); });
    return side_.values(out);
  }
  // Puts what another cache holds into this one of floats or halves.
  void take(const Filled& other) {
    auto& kv = static_cast<CudaKv&>(*kv_);
    const KvView view = kv.view();
    const bool half = kv.element == KvElement::kF16;
    const uint64_t bytes = half ? 2 : 4, n = static_cast<uint64_t>(shape_.head_dim);
    for (int64_t head = 0; head < shape_.n_kv_heads; ++head) {
      for (int64_t position = 0; position < kPast + n_; ++position) {
        const Row row = other.read(head, position);
        const uint64_t at = static_cast<uint64_t>((head * view.capacity + position) * view.padded_dim) * bytes;
        for (const auto& [base, from] : {std::pair(view.keys, &row.key), std::pair(view.values, &row.value)}) {
          std::vector<uint16_t> halves;
          for (const float v : *from) halves.push_back(float_to_half(v));
          const void* const source = half ? static_cast<const void*>(halves.data()) : from->data();
          EXPECT_OK(kv.stream->copy_in(static_cast<std::byte*>(base) + at, source, n * bytes));
          EXPECT_OK(kv.stream->synchronize());
        }
      }
    }
  }

 private:
  Side side_;
  Shape shape_;
  int64_t n_;
  std::unique_ptr<KvStore> kv_;
  Mat q_;
};

// What the CPU's cache of q8_0 makes of a row.
std::vector<float> on_cpu(const std::vector<float>& row, bool key) {
  const auto dim = static_cast<int64_t>(row.size());
  std::vector<std::byte> panels(kv_head_bytes(KvElement::kQ8_0, dim, kKeyBlock) + 64);
  auto* const at = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(panels.data()) + 63) / 64 * 64);
  std::vector<float> out(row.size());
  if (key) {
    store_key(Isa::kRef, KvElement::kQ8_0, row.data(), dim, 3, at);
    load_key(KvElement::kQ8_0, at, dim, 3, out.data());
  } else {
    store_value(Isa::kRef, KvElement::kQ8_0, row.data(), dim, 3, at);
    load_value(KvElement::kQ8_0, at, dim, 3, out.data());
  }
  return out;
}
std::vector<uint32_t> bits(const std::vector<float>& values) {
  std::vector<uint32_t> out(values.size());
  std::memcpy(out.data(), values.data(), values.size() * sizeof(float));
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) out[i] = 0x7fc00000;  // whichever NaN
  }
  return out;
}

void expect_the_cpus_bits(const Shape& shape, const std::vector<float>& x, host::Order order) {
  const Filled floats(shape, KvElement::kF32, x), q8(shape, KvElement::kQ8_0, x, order);
  const auto n = static_cast<int64_t>(x.size()) / kWidth;
  for (int64_t head = 0; head < shape.n_kv_heads; ++head) {
    for (int64_t position = kPast; position < kPast + n; ++position) {
      const Filled::Row want = floats.read(head, position), got = q8.read(head, position);
      ASSERT_EQ(bits(got.key), bits(on_cpu(want.key, true))) << "head " << head << ", position " << position;
      ASSERT_EQ(bits(got.value), bits(on_cpu(want.value, false))) << "head " << head << ", position " << position;
    }
    for (const int64_t other : {kPast - 1, kPast + n}) {
      EXPECT_EQ(q8.read(head, other).key, std::vector<float>(static_cast<size_t>(shape.head_dim)));
      EXPECT_EQ(q8.read(head, other).value, std::vector<float>(static_cast<size_t>(shape.head_dim)));
    }
  }
}

TEST(CudaCacheQ8, CodesAndScalesAreTheCpus) {
  Random random(1);
  for (const Shape& shape : kShapes) {
    for (const int64_t n : {1, 8, 20}) {
      SCOPED_TRACE(std::to_string(shape.head_dim) + ", " + std::to_string(n) + " rows");
      expect_the_cpus_bits(shape, random.gaussian(n * kWidth), n == 8 ? host::Order::kRandom : host::Order::kReverse);
    }
  }
}

// Scales that binary16 rounds, makes subnormal, zero or as great as it can; NaN and infinities.
TEST(CudaCacheQ8, ExtremeRowsAreTheCpus) {
  Random random(2);
  std::vector<float> x;
  for (const float scale : {0.0f, 1e-30f, 1e-9f, 3e-7f, 1e-5f, 0.1f, 1e4f, 8e6f, 1e7f, 1e30f, INFINITY, NAN}) {
    for (const float v : random.gaussian(kWidth)) x.push_back(v * scale);
  }
  for (const Shape& shape : {Shape{6, 1, 128}, Shape{4, 2, 80}}) expect_the_cpus_bits(shape, x, host::Order::kForward);
}

TEST(CudaCacheQ8, QueriesAreThoseOfOtherCaches) {
  Random random(3);
  for (const Shape& shape : kShapes) {
    const std::vector<float> x = random.gaussian(11 * kWidth);
    EXPECT_EQ(Filled(shape, KvElement::kQ8_0, x).queries(), Filled(shape, KvElement::kF32, x).queries());
  }
}

// How far two results are from each other, of the length of the second.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, power = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    error += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    power += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(error / power);
}

// As a cache of floats with the same values: queries and keys are mixed here, so few rows differ by the rounding of
// floats only. Many: queries, keys, values and weights are rounded to halves, each by 2^-11 at most, where a cache of
// halves rounds them unmixed.
TEST(CudaCacheQ8, AttentionIsThatOverTheValues) {
  Random random(4);
  for (const Shape& shape : kShapes) {
    for (const int64_t n : {20, 200}) {
      const std::vector<float> x = random.gaussian(n * kWidth);
      Filled q8(shape, KvElement::kQ8_0, x, host::Order::kRandom), floats(shape, KvElement::kF32, x),
          halves(shape, KvElement::kF16, x);
      floats.take(q8);
      halves.take(q8);
      for (const int64_t few : {1, 8}) {
        EXPECT_LE(distance(q8.attend(few), floats.attend(few)), 1e-5) << shape.head_dim << ", " << n;
      }
      for (const int64_t many : {int64_t{9}, n}) {
        EXPECT_LE(distance(q8.attend(many), floats.attend(many)), 2 * 0x1p-10) << shape.head_dim << ", " << n;
        EXPECT_LE(distance(halves.attend(many), floats.attend(many)), 2 * 0x1p-10) << shape.head_dim << ", " << n;
      }
    }
  }
}

TEST(CudaCacheQ8, WindowsBeginWhereTheyAreToldTo) {
  Random random(6);
  for (const Shape& shape : {Shape{6, 1, 128}, Shape{4, 2, 80}}) {
    const std::vector<float> x = random.gaussian(150 * kWidth);
    Filled q8(shape, KvElement::kQ8_0, x), floats(shape, KvElement::kF32, x);
    floats.take(q8);
    for (const int64_t rows : {1, 8, 20}) {
      const std::vector<float> window = q8.attend(rows, 64);
      EXPECT_LE(distance(window, floats.attend(rows, 64)), 2 * 0x1p-10) << shape.head_dim << ", " << rows;
      EXPECT_GT(distance(window, floats.attend(rows)), 0x1p-6) << "the keys before the window are not seen";
    }
  }
}

TEST(CudaCacheQ8, TakesAboutHalfTheMemoryOfHalves) {
  const auto ops = host_ops();
  EXPECT_EQ(ops->kv_bytes(2, 128, 512, KvElement::kQ8_0) * 32, ops->kv_bytes(2, 128, 512, KvElement::kF16) * 17);
}

TEST(CudaCacheQ8, LayersWithWideChannelsKeepHalves) {
  const auto ops = host_ops();
  EXPECT_EQ(ops->kv_bytes(2, 128, 512, KvElement::kQ8_0, 2), ops->kv_bytes(2, 128, 512, KvElement::kF16));
  const std::vector<int32_t> wide = {5, 69, 6, 70};
  const auto kv = must(ops->make_kv(2, 128, 512, KvElement::kQ8_0, wide));
  EXPECT_EQ(static_cast<const CudaKv&>(*kv).element, KvElement::kF16);
}

}  // namespace
}  // namespace glimpse::cuda
