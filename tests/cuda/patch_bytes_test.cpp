// Pictures sent as bytes: the values, and so the embeddings, are those of patches that the host normalised.
#include <gtest/gtest.h>

#include "engine/generate/session.h"
#include "tests/cuda/host_backend.h"
#include "tests/cuda/side.h"

namespace glimpse::cuda {
namespace {

// 3 x 256 floats of which no two are the same.
std::vector<float> table() {
  std::vector<float> levels;
  for (int i = 0; i < 3 * 256; ++i) levels.push_back((static_cast<float>(i) - 300.3f) / 77.7f);
  return levels;
}

TEST(CudaPatchBytes, ValuesAreTheTables) {
  Random random(1);
  const std::vector<float> levels = table();
  for (const int64_t run : {1, 4, 196}) {
    for (const int64_t n : {int64_t{1}, 3 * run, 3 * run * 7 + 1, int64_t{10000}}) {
      const std::vector<std::byte> random_bytes = random.bytes(static_cast<uint64_t>(n));
      std::vector<uint8_t> bytes;
      std::vector<float> want;
      for (int64_t i = 0; i < n; ++i) {
        bytes.push_back(static_cast<uint8_t>(random_bytes[static_cast<size_t>(i)]));
        want.push_back(levels[static_cast<size_t>(i / run % 3 * 256 + bytes.back())]);
      }
      Side sides[2] = {Side(make_ref_ops()), Side(host_ops({.order = host::Order::kRandom}))};
      for (Side& s : sides) {
        const Mat out = s.poisoned(1, n + 1);
        s.run([&] { s->upload_levels(bytes.data(), n, run, levels.data(), out.data); });
        std::vector<float> got = s.values(out);
        EXPECT_TRUE(std::isnan(got.back())) << "written past the end";
        got.pop_back();
        EXPECT_EQ(got, want) << s->describe() << ", " << n << " values, runs of " << run;
      }
    }
  }
}

TEST(CudaPatchBytes, OperationsBeforeAndAfterKeepTheirOrder) {
  Random random(2);
  Side s(host_ops());
  const std::vector<float> levels = table();
  const std::vector<uint8_t> zeros(12 * 12, 0), ones(12 * 12, 1);
  const Linear w = s.linear(quantized(DType::kBF16, random.gaussian(16 * 12), 16, 12), DType::kBF16, 16, 12, {});
  const Mat in = s.poisoned(12, 12), first = s.poisoned(12, 16), second = s.poisoned(12, 16), want = s.poisoned(12, 16);
  s.run([&] {  // twelve rows: the product's activations lie where the bytes did
    s->upload_levels(zeros.data(), 144, 4, levels.data(), in.data);
    s->norm_linear(in, Norm{}, w, Activation::kNone, want);
    s->upload_levels(ones.data(), 144, 4, levels.data(), in.data);
    s->norm_linear(in, Norm{}, w, Activation::kNone, first);
    s->upload_levels(zeros.data(), 144, 4, levels.data(), in.data);
    s->norm_linear(in, Norm{}, w, Activation::kNone, second);
  });
  EXPECT_EQ(s.values(second), s.values(want));
  EXPECT_NE(s.values(first), s.values(want));
}

class Recorder {
 public:
  TapSink sink() {
    return [this](const std::string& name, const float* values, int64_t rows, int64_t cols) {
      steps.emplace_back(name, std::vector<float>(values, values + rows * cols));
    };
  }
  std::vector<std::pair<std::string, std::vector<float>>> steps;
};

TEST(CudaPatchBytes, EmbeddingsAreThoseOfValues) {
  ModelOptions options;
  options.model_path = glimpse::testing::golden_path("tied/model.gguf");
  options.mmproj_path = glimpse::testing::golden_path("tied/mmproj.gguf");
  options.n_threads = 1;
  for (const bool on_device : {true, false}) {
    ModelOptions here = options;
    if (on_device) {
      here.device = DeviceKind::kCuda;
      here.ops_factory = [](int n_threads) -> Result<std::unique_ptr<Ops>> {
        GLIMPSE_ASSIGN(std::unique_ptr<CudaOps> ops, CudaOps::create(test_device({}), n_threads));
        return std::unique_ptr<Ops>(std::move(ops));
      };
    }
    const auto model = must(Model::load(here));
    const PatchConfig& config = model->vision().patch;
    const auto side = static_cast<int32_t>(config.patch_size * config.merge_size);
    Image image{3 * side, 2 * side, {}};
    for (int i = 0; i < 6 * side * side * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(i * 2654435761u >> 13));
    const Patches values = must(extract_patches(image, config, nullptr)),
                  bytes = must(extract_patches(image, config, nullptr, PatchForm::kBytes));
    const auto ops = must(model->make_ops(1));
    const auto encoder = must(VisionEncoder::create(model, *ops, values.grid.n_patches()));
    EXPECT_EQ(encoder->patch_form(), on_device ? PatchForm::kBytes : PatchForm::kValues);
    Recorder want, got;
    const auto of_values = must(encoder->encode(values, want.sink(), {}));
    EXPECT_EQ(must(encoder->encode(bytes, got.sink(), {})).values, of_values.values);
    EXPECT_EQ(got.steps, want.steps);
    ASSERT_FALSE(want.steps.empty());
    const Patches frames[3] = {values, bytes, values}, same[3] = {values, values, values};
    EXPECT_EQ(must(encoder->encode_video(frames, {}, {})).values, must(encoder->encode_video(same, {}, {})).values);

    Patches bad = bytes;
    bad.levels.pop_back();
    EXPECT_EQ(encoder->encode(bad, {}, {}).error().code, ErrorCode::kInvalidArgument);
    bad = bytes;
    bad.bytes.pop_back();
    EXPECT_EQ(encoder->encode(bad, {}, {}).error().code, ErrorCode::kInvalidArgument);
    bad = bytes;
    bad.values = values.values;
    EXPECT_EQ(encoder->encode(bad, {}, {}).error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace glimpse::cuda
