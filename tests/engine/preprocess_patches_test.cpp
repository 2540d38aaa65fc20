#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "engine/preprocess/preprocess.h"
#include "tests/engine/preprocess_support.h"
#include "tests/engine/whole_resize.h"

namespace glimpse {
namespace {

using preprocess_test::fixture_folder;
using preprocess_test::fnv1a64;
using preprocess_test::pattern;

PatchConfig qwen3_config() {
  PatchConfig config;
  config.patch_size = 16;
  for (int c = 0; c < 3; ++c) config.mean[c] = config.std[c] = 0.5f;
  return config;
}

std::vector<float> read_floats(const std::string& name) {
  std::ifstream in(fixture_folder() / name, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

TEST(ExtractPatches, AgreesWithTransformers) {
  struct Model {
    const char* fixture;
    PatchConfig config;
    int width, height;
  };
  for (const Model& model :
       {Model{"patches_qwen2.f32", PatchConfig(), 56, 28}, Model{"patches_qwen3.f32", qwen3_config(), 32, 64}}) {
    const std::vector<float> want = read_floats(model.fixture);
    const auto got = extract_patches(pattern("noise", 77, model.width, model.height), model.config, nullptr);
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got->grid.t, 1);
    EXPECT_EQ(got->grid.h, model.height / model.config.patch_size);
    EXPECT_EQ(got->grid.w, model.width / model.config.patch_size);
    EXPECT_EQ(got->row_length, 3 * model.config.patch_size * model.config.patch_size);
    ASSERT_EQ(got->values.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got->values[i], want[i], 1e-6) << model.fixture << " " << i;
  }
}

// A 4 x 6 grid of patches: patches 0, 1, 6, 7 (of the raster) come first.
TEST(ExtractPatches, OrderIsMergeOrder) {
  PatchConfig config;
  config.patch_size = 2;
  for (int c = 0; c < 3; ++c) {
    config.mean[c] = 0;
    config.std[c] = 1;
  }
  // Red says the patch row, green the patch column, blue the pixel within the patch.
  Image image{12, 8, {}};
  for (int y = 0; y < 8; ++y) {
    for (int x = 0; x < 12; ++x) {
      for (int value : {y / 2, x / 2, y % 2 * 2 + x % 2}) image.pixels.push_back(static_cast<uint8_t>(value));
    }
  }
  const auto patches = extract_patches(image, config, nullptr);
  ASSERT_TRUE(patches.ok());
  const std::vector<std::pair<int, int>> order = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3},
                                                  {0, 4}, {0, 5}, {1, 4}, {1, 5}, {2, 0}, {2, 1}, {3, 0}, {3, 1},
                                                  {2, 2}, {2, 3}, {3, 2}, {3, 3}, {2, 4}, {2, 5}, {3, 4}, {3, 5}};
  ASSERT_EQ(patches->values.size(), order.size() * 12);
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t k = 0; k < 4; ++k) {
      EXPECT_EQ(std::lround(patches->values[i * 12 + k] * 255), order[i].first) << i;
      EXPECT_EQ(std::lround(patches->values[i * 12 + 4 + k] * 255), order[i].second) << i;
      EXPECT_EQ(std::lround(patches->values[i * 12 + 8 + k] * 255), static_cast<long>(k)) << i;
    }
  }
}

TEST(ExtractPatches, ThreadsGiveTheSameValues) {
  const Image image = pattern("photo", 2, 28 * 5, 28 * 9);
  const auto want = extract_patches(image, {}, nullptr);
  ASSERT_TRUE(want.ok());
  for (int n_threads : {1, 2, 3, 7, 16}) {
    ThreadTeam team(n_threads);
    const auto got = extract_patches(image, {}, &team);
    ASSERT_TRUE(got.ok());
    EXPECT_TRUE(got->values == want->values) << n_threads;
  }
}

TEST(ExtractPatches, BytesAndLevelsAreTheValues) {
  const auto image = pattern("noise", 9, 84, 140);
  const auto values = extract_patches(image, {}, nullptr);
  ASSERT_TRUE(values.ok());
  for (const int n_threads : {1, 3}) {
    ThreadTeam team(n_threads);
    const auto bytes = extract_patches(image, {}, &team, PatchForm::kBytes);
    ASSERT_TRUE(bytes.ok());
    EXPECT_TRUE(bytes->values.empty());
    ASSERT_EQ(bytes->levels.size(), 3u * 256);
    ASSERT_EQ(bytes->bytes.size(), values->values.size());
    const auto run = static_cast<size_t>(bytes->row_length / 3);
    for (size_t i = 0; i < bytes->bytes.size(); ++i) {
      ASSERT_EQ(bytes->levels[i / run % 3 * 256 + bytes->bytes[i]], values->values[i]) << i;
    }
  }
  EXPECT_TRUE(values->bytes.empty() && values->levels.empty());
}

TEST(ExtractPatches, SenselessArgumentsAreErrors) {
  EXPECT_FALSE(extract_patches(pattern("noise", 1, 28, 29), {}, nullptr).ok());
  EXPECT_FALSE(extract_patches(pattern("noise", 1, 42, 28), {}, nullptr).ok());
  EXPECT_FALSE(extract_patches({}, {}, nullptr).ok());
  EXPECT_FALSE(extract_patches({28, 56, pattern("noise", 1, 28, 28).pixels}, {}, nullptr).ok());
  PatchConfig config;
  config.patch_size = 0;
  EXPECT_FALSE(extract_patches(pattern("noise", 1, 28, 28), config, nullptr).ok());
  config = {};
  config.std[1] = 0;
  EXPECT_FALSE(extract_patches(pattern("noise", 1, 28, 28), config, nullptr).ok());
}

// From the file to the patches, as transformers with Pillow goes.
TEST(Preprocess, PhotographAgreesWithTransformersStepByStep) {
  std::ifstream in(fixture_folder() / "photo.txt");
  int width, height, resized_width, resized_height;
  uint64_t hash, resized_hash;
  size_t n_values;
  in >> width >> height >> std::hex >> hash >> std::dec;
  in >> resized_width >> resized_height >> std::hex >> resized_hash >> std::dec >> n_values;
  ASSERT_TRUE(in.good());

  const auto image = load_image(GLIMPSE_TEST_DIR "/data/chelsea.jpg", {});
  ASSERT_TRUE(image.ok()) << image.error().message;
  EXPECT_EQ(image->width, width);
  EXPECT_EQ(image->height, height);
  EXPECT_EQ(fnv1a64(image->pixels), hash);
  const auto size = smart_resize(image->height, image->width, 28, {3136, 100352});
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(size->width, resized_width);
  EXPECT_EQ(size->height, resized_height);
  ThreadTeam team(2);
  const auto resized = resize_bicubic(image.value(), size.value(), &team);
  ASSERT_TRUE(resized.ok());
  EXPECT_EQ(fnv1a64(resized->pixels), resized_hash);
  const auto patches = extract_patches(resized.value(), {}, &team);
  ASSERT_TRUE(patches.ok());
  ASSERT_EQ(patches->values.size(), n_values);
  size_t n_compared = 0;
  float want;
  for (size_t i = 0; i < n_values && in >> want; i += 97, ++n_compared) {
    ASSERT_NEAR(patches->values[i], want, 1e-6) << i;
  }
  EXPECT_EQ(n_compared, (n_values + 96) / 97);
}

}  // namespace
}  // namespace glimpse
