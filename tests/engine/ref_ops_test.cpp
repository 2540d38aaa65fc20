// RefOps against formulas written out by hand on small numbers: the oracle needs a check that is not itself.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "engine/base/half.h"
#include "engine/runtime/ops.h"
#include "kernels/quant/quant.h"
#include "kernels/quant/random_blocks.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/weight_source.h"

namespace glimpse {
namespace {

using testing::must;

class RefOpsTest : public ::testing::Test {
 protected:
  std::mt19937 random_{7};
  std::unique_ptr<Ops> ops_ = make_ref_ops();

  std::vector<float> gaussian(int64_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> out(static_cast<size_t>(n));
    for (float& v : out) v = normal(random_);
    return out;
  }

  static WeightSource source_of(const std::vector<float>& values, int64_t rows, int64_t cols) {
    return glimpse::source_of(std::vector<std::byte>(reinterpret_cast<const std::byte*>(values.data()),
                                                     reinterpret_cast<const std::byte*>(values.data() + values.size())),
                              DType::kF32, rows, cols);
  }

  std::shared_ptr<const BackendBuffer> buffer(const std::vector<float>& values) {
    std::unique_ptr<BackendBuffer> out = must(ops_->allocate(static_cast<int64_t>(values.size()), "test"));
    ops_->upload(values.data(), static_cast<int64_t>(values.size()), out->data);
    return std::shared_ptr<const BackendBuffer>(std::move(out));
  }
  Linear linear(const std::vector<float>& weight, const std::vector<float>& bias, int64_t rows, int64_t cols) {
    return {must(ops_->pack(source_of(weight, rows, cols), WeightPrecision::kAsStored)),
            bias.empty() ? nullptr : buffer(bias)};
  }
  static Mat mat(std::vector<float>& values, int64_t rows) {
    return Mat::contiguous(values.data(), rows, static_cast<int64_t>(values.size()) / rows);
  }
};

TEST_F(RefOpsTest, NormLinearByHand) {
  // x = (3, 4), RMS: sqrt(12.5); LayerNorm: mean 3.5, deviation 0.5.
  std::vector<float> x = {3, 4}, out(1);
  const Linear w = linear({2, -1}, {10}, 1, 2);
  Norm rms{Norm::Kind::kRms, buffer({1, 3}), nullptr, 0, 2};
  ops_->norm_linear(mat(x, 1), rms, w, Activation::kNone, mat(out, 1));
  EXPECT_NEAR(out[0], 2 * 3 / std::sqrt(12.5) - 3 * 4 / std::sqrt(12.5) + 10, 1e-6);
  Norm layer{Norm::Kind::kLayer, buffer({1, 3}), buffer({0.5f, 0.25f}), 0, 2};
  ops_->norm_linear(mat(x, 1), layer, w, Activation::kNone, mat(out, 1));
  EXPECT_NEAR(out[0], 2 * (-1 + 0.5) - (3 * 1 + 0.25) + 10, 1e-6);
  ops_->norm_linear(mat(x, 1), Norm{}, w, Activation::kNone, mat(out, 1));
  EXPECT_EQ(out[0], 12);
}

TEST_F(RefOpsTest, EpsilonIsInsideTheRoot) {
  std::vector<float> x = {0, 0}, tiny = {1e-3f, 1e-3f}, out(1);
  const Linear w = linear({1, 1}, {}, 1, 2);
  const Norm rms{Norm::Kind::kRms, buffer({1, 1}), nullptr, 1e-6f, 2};
  ops_->norm_linear(mat(x, 1), rms, w, Activation::kNone, mat(out, 1));
  EXPECT_EQ(out[0], 0);
  ops_->norm_linear(mat(tiny, 1), rms, w, Activation::kNone, mat(out, 1));
  EXPECT_NEAR(out[0], 2 / std::sqrt(2.0), 1e-5);
}

TEST_F(RefOpsTest, RowsOfSeveralWidthsAreNormalisedPieceByPiece) {
  std::vector<float> joined = gaussian(6), out_joined(2), pieces = joined, out_piece(2);
  const std::vector<float> weight = gaussian(12);
  const Norm norm{Norm::Kind::kLayer, buffer({1.5f, 2}), buffer({0.1f, -0.2f}), 1e-6f, 2};
  ops_->norm_linear(mat(joined, 1), norm, linear(weight, {}, 2, 6), Activation::kNone, mat(out_joined, 1));
  std::vector<double> want(2, 0.0);
  for (int piece = 0; piece < 3; ++piece) {
    std::vector<float> x(pieces.begin() + 2 * piece, pieces.begin() + 2 * piece + 2), w;
    for (int row = 0; row < 2; ++row) {
      for (int i = 0; i < 2; ++i) w.push_back(weight[static_cast<size_t>(row * 6 + piece * 2 + i)]);
    }
    ops_->norm_linear(mat(x, 1), norm, linear(w, {}, 2, 2), Activation::kNone, mat(out_piece, 1));
    for (size_t i = 0; i < 2; ++i) want[i] += out_piece[i];
  }
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(out_joined[i], want[i], 1e-5);
}

TEST_F(RefOpsTest, ActivationsByKnownValues) {
  std::vector<float> x = {1, -2}, out(2);
  const Linear one = linear({1, 0, 0, 1}, {}, 2, 2);
  const struct {
    Activation activation;
    double at_one, at_minus_two;
  } table[] = {{Activation::kNone, 1, -2},
               {Activation::kQuickGelu, 1 / (1 + std::exp(-1.702)), -2 / (1 + std::exp(3.404))},
               {Activation::kGeluErf, 0.8413447460685429, -0.04550026389635842},  // x Phi(x), normal tables
               {Activation::kGeluTanh, 0.8411919906082768, -0.04540230591222494},
               {Activation::kSilu, 0.7310585786300049, -0.2384058440442351}};
  for (const auto& row : table) {
    ops_->norm_linear(mat(x, 1), Norm{}, one, row.activation, mat(out, 1));
    EXPECT_NEAR(out[0], row.at_one, 1e-7);
    EXPECT_NEAR(out[1], row.at_minus_two, 1e-7);
  }
}

TEST_F(RefOpsTest, SwigluGatesTheUpProjection) {
  std::vector<float> x = {1, -2}, out(1);
  ops_->norm_swiglu(mat(x, 1), Norm{}, linear({1, 0}, {0.5f}, 1, 2), linear({0, 1}, {1}, 1, 2), mat(out, 1));
  EXPECT_NEAR(out[0], 1.5 / (1 + std::exp(-1.5)) * -1, 1e-7);
}

TEST_F(RefOpsTest, LinearAddKeepsWhatIsThere) {
  std::vector<float> in = {1, 2, 3, 4}, x = {100, 200};
  ops_->linear_add(mat(in, 2), linear({10, 1}, {0.5f}, 1, 2), mat(x, 2));
  EXPECT_EQ(x, (std::vector<float>{112.5f, 234.5f}));
}

TEST_F(RefOpsTest, EmbedLeavesRowsWithoutAToken) {
  const auto table = must(ops_->pack(source_of({1, 2, 3, 4, 5, 6}, 3, 2), WeightPrecision::kAsStored));
  std::vector<float> x = {7, 7, 8, 8, 9, 9};
  const int32_t ids[3] = {2, -1, 0};
  ops_->embed(*table, ids, mat(x, 3));
  EXPECT_EQ(x, (std::vector<float>{5, 6, 8, 8, 1, 2}));
}

TEST_F(RefOpsTest, QkvRotatesPairsHalfAHeadApartAndStoresKeys) {
  // Identity projections, head_dim 4, one head: pairs (0, 2) and (1, 3).
  const std::vector<float> identity = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  QkvWeights w{linear(identity, {}, 4, 4), linear(identity, {}, 4, 4), linear(identity, {1, 1, 1, 1}, 4, 4), 1, 1, 4};
  std::vector<float> x = {1, 2, 3, 4}, q(4);
  std::vector<float> cos = {0, 1}, sin = {1, 0};  // pair 0 turns by 90 degrees, pair 1 not at all
  const auto kv = must(ops_->make_kv(1, 4, 10, KvElement::kF32));
  EXPECT_EQ(kv->capacity, 256);
  const Segment segment{.kv = kv.get(), .n_rows = 1, .n_past = 5};
  ops_->norm_qkv(mat(x, 1), Norm{}, w, RopeTable{mat(cos, 1), mat(sin, 1)}, std::span(&segment, 1), mat(q, 1));
  EXPECT_EQ(q, (std::vector<float>{-3, 2, 1, 4}));
  float key[4], value[4];
  kv->read(0, 5, key, value);
  EXPECT_EQ(std::vector<float>(key, key + 4), q);
  EXPECT_EQ(std::vector<float>(value, value + 4), (std::vector<float>{2, 3, 4, 5}));
}

// Grouped attention over 3 positions against the definition, causal and full.
TEST_F(RefOpsTest, AttentionMatchesItsDefinition) {
  constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 6, kKeys = 5, kPast = 2;
  const std::vector<float> wq = gaussian(kHeads * kDim * 8), wk = gaussian(kKvHeads * kDim * 8),
                           wv = gaussian(kKvHeads * kDim * 8);
  QkvWeights w{linear(wq, {}, kHeads * kDim, 8),
               linear(wk, {}, kKvHeads * kDim, 8),
               linear(wv, {}, kKvHeads * kDim, 8),
               kHeads,
               kKvHeads,
               kDim};
  std::vector<float> x = gaussian(kKeys * 8), q(kKeys * kHeads * kDim);
  std::vector<float> cos(kKeys * kDim / 2, 1.0f), sin(kKeys * kDim / 2, 0.0f);
  const auto kv = must(ops_->make_kv(kKvHeads, kDim, kKeys, KvElement::kF32));
  const Segment whole{.kv = kv.get(), .n_rows = kKeys};
  ops_->norm_qkv(mat(x, kKeys), Norm{}, w, RopeTable{mat(cos, kKeys), mat(sin, kKeys)}, std::span(&whole, 1),
                 mat(q, kKeys));
  for (const bool causal : {true, false}) {
    const int64_t rows = kKeys - kPast;
    std::vector<float> out(static_cast<size_t>(rows * kHeads * kDim));
    const Segment segment{.kv = kv.get(), .n_rows = rows, .n_past = kPast, .causal = causal};
    ops_->attention(mat(q, kKeys).slice(kPast, rows), kHeads, std::span(&segment, 1), mat(out, rows));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t head = 0; head < kHeads; ++head) {
        const int64_t visible = causal ? kPast + r + 1 : kKeys;
        double total = 0;
        std::vector<double> sum(kDim, 0.0);
        for (int64_t k = 0; k < visible; ++k) {
          float key[kDim], value[kDim];
          kv->read(head / 2, k, key, value);
          double dot = 0;
          for (int64_t j = 0; j < kDim; ++j)
            dot += q[static_cast<size_t>(((kPast + r) * kHeads + head) * kDim + j)] * key[j];
          const double p = std::exp(dot / std::sqrt(static_cast<double>(kDim)));
          total += p;
          for (int64_t j = 0; j < kDim; ++j) sum[static_cast<size_t>(j)] += p * value[j];
        }
        for (int64_t j = 0; j < kDim; ++j) {
          EXPECT_NEAR(out[static_cast<size_t>((r * kHeads + head) * kDim + j)], sum[static_cast<size_t>(j)] / total,
                      1e-5);
        }
      }
    }
  }
}

TEST_F(RefOpsTest, LargeScoresDoNotOverflow) {
  const std::vector<float> identity = {1, 0, 0, 1};
  QkvWeights w{linear(identity, {}, 2, 2), linear(identity, {}, 2, 2), linear(identity, {}, 2, 2), 1, 1, 2};
  std::vector<float> x = {1e4f, 0, 0, 1e4f}, q(4), out(4), cos = {1, 1}, sin = {0, 0};
  const auto kv = must(ops_->make_kv(1, 2, 2, KvElement::kF32));
  const Segment segment{.kv = kv.get(), .n_rows = 2, .causal = false};
  ops_->norm_qkv(mat(x, 2), Norm{}, w, RopeTable{mat(cos, 2), mat(sin, 2)}, std::span(&segment, 1), mat(q, 2));
  ops_->attention(mat(q, 2), 1, std::span(&segment, 1), mat(out, 2));
  EXPECT_EQ(out, x);  // each row attends to itself alone
}

TEST_F(RefOpsTest, PackKeepsDequantisesOrRounds) {
  std::vector<float> values = gaussian(64);
  const auto half = [&] {
    std::vector<std::byte> bytes(128);
    for (size_t i = 0; i < 64; ++i) {
      const uint16_t h = float_to_half(values[i]);
      std::memcpy(bytes.data() + 2 * i, &h, 2);
    }
    return glimpse::source_of(bytes, DType::kF16, 2, 32);
  }();
  std::vector<float> row(32);
  const auto stored = must(ops_->pack(half, WeightPrecision::kAsStored));
  EXPECT_EQ(stored->n_bytes, 128u);
  ops_->unpack_row(*stored, 1, row.data());
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(row[i], half_to_float(float_to_half(values[32 + i])));
  const auto wide = must(ops_->pack(half, WeightPrecision::kF32));
  EXPECT_EQ(wide->n_bytes, 256u);
  ops_->unpack_row(*wide, 1, row.data());
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(row[i], half_to_float(float_to_half(values[32 + i])));
  const auto rounded = must(ops_->pack(half, WeightPrecision::kBf16));
  EXPECT_EQ(rounded->n_bytes, 128u);
  ops_->unpack_row(*rounded, 0, row.data());
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(row[i], bf16_to_float(float_to_bf16(half_to_float(float_to_half(values[i])))));
  }
}

TEST_F(RefOpsTest, EveryWeightTypeIsMultipliedAsItsDequantisedRow) {
  for (uint32_t id = 0; id < 64; ++id) {
    const DTypeInfo* info = find_dtype(id);
    if (info == nullptr || !info->is_weight) continue;
    SCOPED_TRACE(info->name);
    std::vector<float> values = gaussian(2 * 256), row(256), x = gaussian(256), out(2);
    const uint64_t row_bytes = dtype_row_bytes(info->type, 256);
    std::vector<std::byte> bytes(2 * row_bytes);
    for (size_t r = 0; r < 2; ++r) {
      std::byte* const to = bytes.data() + r * row_bytes;
      if (can_quantize(info->type)) {
        quantize_row_ref(info->type, values.data() + 256 * r, to, 256, nullptr);
      } else {
        random_blocks(info->type, r, 256, to);
      }
    }
    Linear w;
    w.weight = must(ops_->pack(glimpse::source_of(bytes, info->type, 2, 256), WeightPrecision::kBf16));
    ops_->norm_linear(mat(x, 1), Norm{}, w, Activation::kNone, mat(out, 1));
    for (size_t r = 0; r < 2; ++r) {
      dequantize_row_ref(info->type, bytes.data() + r * row_bytes, row.data(), 256);
      double want = 0;
      const bool rounds = info->type == DType::kF32 || info->type == DType::kF16;
      for (size_t i = 0; i < 256; ++i) {
        want += static_cast<double>(rounds ? bf16_to_float(float_to_bf16(row[i])) : row[i]) * x[i];
      }
      EXPECT_FLOAT_EQ(out[r], static_cast<float>(want));
    }
  }
}

TEST_F(RefOpsTest, PackNamesTheRowOfABadWeight) {
  std::vector<float> values(12, 1.0f);
  values[7] = std::numeric_limits<float>::infinity();
  const auto result = ops_->pack(source_of(values, 4, 3), WeightPrecision::kAsStored);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kNumeric);
  EXPECT_NE(result.error().message.find("some.weight: row 2"), std::string::npos) << result.error().message;
}

TEST_F(RefOpsTest, RoundingToBfloatMustNotMakeAnInfinity) {
  std::vector<float> values(4, std::numeric_limits<float>::max());
  EXPECT_TRUE(ops_->pack(source_of(values, 2, 2), WeightPrecision::kAsStored).ok());
  const auto result = ops_->pack(source_of(values, 2, 2), WeightPrecision::kBf16);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kNumeric);
}

TEST_F(RefOpsTest, PackReportsReadErrorsAndUnusableTypes) {
  WeightSource source = source_of({1, 2}, 1, 2);
  source.read_rows = [](int64_t, int64_t, std::span<std::byte>) -> Status {
    return make_error(ErrorCode::kIo, "the disk is gone");
  };
  EXPECT_EQ(ops_->pack(source, WeightPrecision::kAsStored).error().code, ErrorCode::kIo);
  const auto result =
      ops_->pack(glimpse::source_of(std::vector<std::byte>(64), DType::kI32, 2, 8), WeightPrecision::kAsStored);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(result.error().message.find("I32"), std::string::npos);
}

TEST_F(RefOpsTest, AllFiniteSeesEveryElement) {
  std::vector<float> x = gaussian(15);
  EXPECT_TRUE(ops_->all_finite(mat(x, 3)));
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    for (size_t i = 0; i < x.size(); ++i) {
      std::vector<float> y = x;
      y[i] = bad;
      EXPECT_FALSE(ops_->all_finite(mat(y, 3)));
      EXPECT_EQ(ops_->all_finite(mat(y, 3).slice(0, 1)), i >= 5);
    }
  }
}

}  // namespace
}  // namespace glimpse
