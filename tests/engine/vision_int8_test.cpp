// Large pictures with --vision-precision int8: keys, values and weights of the attention in int8.
#include <gtest/gtest.h>

#include "engine/base/half.h"
#include "engine/model/model.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/model_editor.h"

namespace glimpse {
namespace {

using testing::Backend;
using testing::must;

Patches picture(const Model& model, int rows, int columns) {  // of 2 x 2 patches
  Image image{28 * columns, 28 * rows, std::vector<uint8_t>(static_cast<size_t>(28 * columns * 28 * rows * 3))};
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<uint8_t>((i * 2654435761u >> 26) + i / 300 % 150);
  }
  return must(extract_patches(image, model.vision().patch, nullptr));
}

class VisionInt8 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!detect_isa().has(Isa::kAvx512Vnni)) GTEST_SKIP() << "this CPU has no VNNI";
  }
  static Backend backend(VisionPrecision precision, int n_threads = 2, Isa isa = detect_isa()) {
    Backend out = {.name = "int8", .isa = isa};
    out.vision = precision;
    out.n_threads = n_threads;
    return out;
  }
  static ImageEmbedding encode(const Backend& backend, int rows, int columns, const TapSink& tap = {}) {
    const auto model = testing::load_golden("tied", backend);
    const auto ops = testing::make_ops(*model, backend);
    const auto encoder = must(VisionEncoder::create(model, *ops, 1400));
    return must(encoder->encode(picture(*model, rows, columns), tap, {}));
  }
  // Keys of the first layer that are no bfloat16.
  static int64_t other_keys(const Backend& backend, int rows, int columns) {
    int64_t count = 0;
    encode(backend, rows, columns, [&](const std::string& name, const float* values, int64_t n, int64_t width) {
      if (name != "v.blk.0.k") return;
      for (int64_t i = 0; i < n * width; ++i) count += values[i] != bf16_to_float(float_to_bf16(values[i])) ? 1 : 0;
    });
    return count;
  }
};

TEST_F(VisionInt8, IsForLargePicturesAndCpusWithVnni) {
  EXPECT_GT(other_keys(backend(VisionPrecision::kInt8), 16, 16), 1024);  // 1024 patches
  EXPECT_EQ(other_keys(backend(VisionPrecision::kInt8), 17, 15), 0);     // 1020
  EXPECT_EQ(other_keys(backend(VisionPrecision::kBf16), 16, 16), 0);
  EXPECT_EQ(other_keys(backend(VisionPrecision::kInt8, 2, Isa::kAvx512), 16, 16), 0);
}

TEST_F(VisionInt8, BitsAreTheSameForEveryThreadCount) {
  const std::vector<float> want = encode(backend(VisionPrecision::kInt8, 1), 18, 19).values;
  for (const int threads : {2, 3, 7}) {
    EXPECT_EQ(encode(backend(VisionPrecision::kInt8, threads), 18, 19).values, want) << threads;
  }
}

TEST_F(VisionInt8, PicturesLeaveNothingBehind) {
  const auto model = testing::load_golden("tied", backend(VisionPrecision::kInt8));
  const auto ops = testing::make_ops(*model, backend(VisionPrecision::kInt8));
  const std::vector<Patches> pictures = {picture(*model, 18, 19), picture(*model, 3, 5), picture(*model, 17, 16)};
  std::vector<std::vector<float>> fresh;
  for (const Patches& p : pictures) {
    fresh.push_back(must(must(VisionEncoder::create(model, *ops, 1400))->encode(p, {}, {})).values);
  }
  const auto encoder = must(VisionEncoder::create(model, *ops, 1400));
  for (const size_t i : {0, 1, 2, 1, 0, 2, 0}) {  // int8 lies behind the bfloat16 of a smaller one, and the reverse
    EXPECT_EQ(must(encoder->encode(pictures[i], {}, {})).values, fresh[i]) << i;
  }
}

TEST_F(VisionInt8, StaysWithinTheBudget) {
  const std::vector<float> want = encode(Backend{.name = "ref", .reference = true}, 18, 19).values;
  const std::vector<float> got = encode(backend(VisionPrecision::kInt8), 18, 19).values;
  ASSERT_EQ(got.size(), want.size());
  double error = 0, power = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += static_cast<double>(got[i] - want[i]) * (got[i] - want[i]);
    power += static_cast<double>(want[i]) * want[i];
  }
  EXPECT_LE(error / power, 1e-2);
  EXPECT_GT(error, 0);
}

// The encoder with some normalised channels `factor` times as large and the weights they meet as much smaller, which
// changes nothing but the rounding: its embedding of a picture.
std::vector<float> embed_with_large_channels(float factor, VisionPrecision precision) {
  testing::ModelEditor editor("tied/mmproj.gguf");
  for (const std::string layer : {"v.blk.0.", "v.blk.1."}) {
    for (const auto& [norm, matrices] :
         {std::pair<std::string, std::vector<std::string>>("ln1", {"attn_q.weight", "attn_k.weight", "attn_v.weight"}),
          {"ln2", {"ffn_up.weight"}}}) {
      for (const size_t channel : {3u, 40u}) {
        for (const char* part : {".weight", ".bias"}) editor.floats(layer + norm + part)[channel] *= factor;
        for (const std::string& name : matrices) {
          testing::ModelEditor::Tensor& t = editor.tensor(layer + name);
          EXPECT_EQ(t.type, DType::kF16);
          auto* const halves = reinterpret_cast<uint16_t*>(t.bytes.data());
          for (size_t row = 0; row < t.dims[1]; ++row) {
            uint16_t& weight = halves[row * t.dims[0] + channel];
            weight = float_to_half(half_to_float(weight) / factor);
          }
        }
      }
    }
  }
  ModelOptions options;
  options.model_path = testing::golden_path("tied/model.gguf");
  options.mmproj_path = editor.write();
  options.vision_precision = precision;
  const auto model = must(Model::load(options));
  const auto ops = must(model->make_ops(1));
  const auto encoder = must(VisionEncoder::create(model, *ops, 256));
  return must(encoder->encode(picture(*model, 8, 8), {}, {})).values;
}

TEST(VisionInt8Error, LargeChannelsCostTheOthersLittle) {
  const auto error_with = [](float factor) {
    const std::vector<float> want = embed_with_large_channels(factor, VisionPrecision::kF32);
    const std::vector<float> got = embed_with_large_channels(factor, VisionPrecision::kInt8);
    double error = 0, power = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      error += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
      power += static_cast<double>(want[i]) * want[i];
    }
    return error / power;
  };
  const double usual = error_with(1);
  EXPECT_GT(usual, 1e-7);
  EXPECT_LE(usual, 5e-4);
  // A channel of 32 standard deviations is 32 / sqrt(32) in each mixed value of its block; the greatest is
  // usually 2.07, and 1.46 in the last block, half of which is padding: (5.66 / 1.46)^2 = 15. Unmixed it would be (32
  // / 1.77)^2 = 327.
  EXPECT_LE(error_with(32), 16 * usual);
}

}  // namespace
}  // namespace glimpse
