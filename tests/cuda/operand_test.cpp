// What a product alone reads is left as products read it (Mat::read_by), and what follows has the bits that it has
// behind floats: each kind of operation that makes such values, both orders of operands, and whole models, whose taps
// want floats.
#include <gtest/gtest.h>

#include <map>
#include <utility>

#include "engine/model/text_decoder.h"
#include "engine/model/vision_encoder.h"
#include "tests/cuda/side.h"
#include "tests/cuda/step_support.h"

namespace glimpse::cuda {
namespace {

std::unique_ptr<CudaOps> ops_of(bool warpgroups) {
  return warpgroups ? warpgroup_ops() : portable_ops();
}

// y (rows, n) of `compute`, which makes `width` values of each of n rows and then calls read() on them; once as floats,
// once left as they are read. kept: whether these are to be two forms.
void expect_same(bool kept, Side& s, const Linear& reader, const std::vector<float>& residual, int64_t n,
                 const std::function<void(Mat values)>& make) {
  const int64_t width = reader.weight->cols;
  std::vector<float> values[2], sums[2];
  for (const bool alone : {false, true}) {
    Mat h = s.poisoned(n, width);
    if (alone) h.read_by = reader.weight.get();
    const Mat sum = s.mat(residual, n);
    s.run([&] {
      make(h);
      s->linear_add(h, reader, sum);
    });
    values[alone] = s.values(h);
    sums[alone] = s.values(sum);
  }
  EXPECT_EQ(sums[1], sums[0]);
  // NaNs, which the rest of the memory holds, are not equal to themselves.
  EXPECT_EQ(std::memcmp(values[0].data(), values[1].data(), values[0].size() * sizeof(float)) != 0, kept);
  for (const float v : sums[0]) ASSERT_TRUE(std::isfinite(v));
}

TEST(CudaOperands, GiveTheBitsOfFloats) {
  struct Case {
    DType gate, up, reader;
    int64_t width, n;
    bool kept;
  };
  constexpr int64_t kHidden = 256, kRows = 24;
  const Case cases[] = {{DType::kQ4_K, DType::kQ4_K, DType::kQ6_K, 512, 9, true},
                        {DType::kQ4_K, DType::kQ4_K, DType::kQ4_K, 512, 8, false},  // few rows
                        {DType::kBF16, DType::kBF16, DType::kBF16, 372, 20, true},  // a rest of a tile of columns
                        {DType::kF16, DType::kF16, DType::kF16, 40, 12, false},     // no room for whole tiles
                        {DType::kQ8_0, DType::kQ4_0, DType::kQ8_0, 416, 21, true},  // two launches
                        {DType::kF32, DType::kF32, DType::kF16, 200, 16, true},     // kernels that store floats
                        {DType::kF16, DType::kF16, DType::kF32, 256, 10, false}};   // a reader of floats
  for (const bool warpgroups : {false, true}) {
    for (const Case& c : cases) {
      SCOPED_TRACE(std::to_string(c.width) + " columns, " + std::to_string(c.n) + " rows, warpgroups " +
                   std::to_string(warpgroups));
      Random random(21);
      Side s(ops_of(warpgroups));
      const auto matrix = [&](DType type, int64_t rows, int64_t cols) {
        return s.linear(quantized(type, random.gaussian(rows * cols, 0.1f), rows, cols), type, rows, cols,
                        random.gaussian(rows, 0.1f));
      };
      const Linear gate = matrix(c.gate, c.width, kHidden), up = matrix(c.up, c.width, kHidden),
                   reader = matrix(c.reader, kRows, c.width);
      const Norm norm = s.norm(Norm::Kind::kRms, kHidden, norm_weights(random, kHidden), {});
      const Mat x = s.mat(random.gaussian(c.n * kHidden), c.n);
      const std::vector<float> residual = random.gaussian(c.n * kRows);
      expect_same(c.kept, s, reader, residual, c.n, [&](Mat h) { s->norm_swiglu(x, norm, gate, up, h); });
      expect_same(c.kept, s, reader, residual, c.n,
                  [&](Mat h) { s->norm_linear(x, norm, up, Activation::kGeluTanh, h); });
    }
  }
}

TEST(CudaOperands, OfAttentionGiveTheBitsOfFloats) {
  constexpr int64_t kWidth = 64, kRows = 24;
  struct Case {
    int64_t n_heads, head_dim;
    std::vector<int64_t> segments;
  };
  const Case cases[] = {{8, 16, {20}}, {2, 80, {9, 12}}, {8, 16, {1, 19}}, {6, 22, {16}}};
  for (const bool warpgroups : {false, true}) {
    for (const Case& c : cases) {
      for (const KvElement element : {KvElement::kF32, KvElement::kF16, KvElement::kQ8_0}) {
        if (warpgroups && element == KvElement::kQ8_0) continue;  // the order of the operand is not the cache's affair
        SCOPED_TRACE(std::to_string(c.head_dim) + ", " + std::to_string(c.segments.size()) + " segments");
        Random random(22);
        Side s(ops_of(warpgroups));
        const int64_t heads = c.n_heads * c.head_dim;
        const auto matrix = [&](DType type, int64_t rows, int64_t cols) {
          return s.linear(quantized(type, random.gaussian(rows * cols, 0.2f), rows, cols), type, rows, cols, {});
        };
        QkvWeights w{matrix(DType::kF32, heads, kWidth),
                     matrix(DType::kF32, heads, kWidth),
                     matrix(DType::kF32, heads, kWidth),
                     c.n_heads,
                     c.n_heads,
                     c.head_dim};
        const Linear reader = matrix(DType::kBF16, kRows, heads);
        std::vector<std::unique_ptr<KvStore>> stores;
        std::vector<glimpse::Segment> segments;
        int64_t n = 0;
        for (const int64_t count : c.segments) {
          stores.push_back(must(s->make_kv(c.n_heads, c.head_dim, 40, element)));
          segments.push_back({.kv = stores.back().get(), .first_row = n, .n_rows = count});
          n += count;
        }
        const int64_t half = c.head_dim / 2;
        const Mat x = s.mat(random.gaussian(n * kWidth), n), q = s.poisoned(n, heads);
        const RopeTable rope{s.mat(std::vector<float>(static_cast<size_t>(n * half), 1.0f), n),
                             s.mat(std::vector<float>(static_cast<size_t>(n * half), 0.0f), n)};
        s.run([&] { s->norm_qkv(x, Norm{}, w, rope, segments, q); });
        expect_same(true, s, reader, random.gaussian(n * kRows), n,
                    [&](Mat out) { s->attention(q, c.n_heads, segments, out); });
      }
    }
  }
}

TEST(CudaOperands, AreForOneReader) {
  Random random(23);
  Side s(host_ops());
  const auto matrix = [&](DType type) {
    return s.linear(quantized(type, random.gaussian(16 * 128), 16, 128), type, 16, 128, {});
  };
  const Linear reader = matrix(DType::kQ8_0), other = matrix(DType::kF32);
  Mat h = s.mat(random.gaussian(12 * 128), 12);
  const Mat sum = s.mat(random.gaussian(12 * 16), 12);
  h.read_by = reader.weight.get();
  const Status status = s->run([&] { s->linear_add(h, other, sum); });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kInternal);
  EXPECT_OK(s->run([&] { s->linear_add(h.slice(0, 12), other, sum); }));  // a part is floats
}

// A tap wants floats, and does not change what is computed.
TEST(CudaOperands, ModelsGiveTheBitsOfThoseThatAreTapped) {
  using namespace glimpse::testing;
  for (const bool warpgroups : {false, true}) {
    const auto model = load_on(golden_path("quantized/model.gguf"), "", CudaDecode::kLaunches,
                               HostDeviceOptions{.warpgroups = warpgroups});
    const auto ops = must(model->make_ops(1));
    const auto decoder = must(TextDecoder::create(model, *ops, 64, 32));
    std::vector<TokenId> ids;
    for (int i = 0; i < 21; ++i) ids.push_back((i * i * 31 + 7) % 200);
    PassInput input;
    input.append_text(ids);
    std::vector<float> logits[2];
    int n_seen = 0;
    const TapSink tap = [&](const std::string&, const float*, int64_t, int64_t) { ++n_seen; };
    for (const bool tapped : {false, true}) {
      logits[tapped].resize(static_cast<size_t>(model->text().vocab_size));
      const auto cache = must(KvCache::create(*model, *ops, 64, KvElement::kF16));
      EXPECT_OK(decoder->forward(*cache, input.rows(), logits[tapped], false, tapped ? tap : TapSink{}, {}));
    }
    EXPECT_GT(n_seen, 0);
    EXPECT_EQ(logits[1], logits[0]);
  }
}

}  // namespace
}  // namespace glimpse::cuda
