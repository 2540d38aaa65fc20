#include <gtest/gtest.h>

#include <fstream>

#include "engine/preprocess/preprocess.h"
#include "tests/engine/preprocess_support.h"

namespace glimpse {
namespace {

// The limits of the released preprocessor_config.json files.
constexpr ResizeLimits kQwen2Limits = {3136, 12845056};
constexpr ResizeLimits kQwen3Limits = {65536, 16777216};

TEST(SmartResize, GivesTheWorkedTable) {
  struct Row {
    int64_t height, width;
    ImageSize qwen2;  // factor 28; width first
    int64_t qwen2_tokens;
    ImageSize qwen3;  // factor 32
    int64_t qwen3_tokens;
  };
  const Row rows[] = {
      {28, 28, {56, 56}, 4, {256, 256}, 64},
      {14, 14, {56, 56}, 4, {256, 256}, 64},
      {42, 70, {56, 56}, 4, {352, 224}, 77},  // 1.5 and 2.5 are both rounded to 2
      {100, 200, {196, 112}, 28, {384, 192}, 72},
      {240, 320, {308, 252}, 99, {320, 256}, 80},
      {480, 640, {644, 476}, 391, {640, 480}, 300},
      {770, 1022, {1008, 784}, 1008, {1024, 768}, 768},  // 27.5 to 28, 36.5 to 36
      {720, 1280, {1288, 728}, 1196, {1280, 704}, 880},  // 22.5 to 22
      {1080, 1920, {1932, 1092}, 2691, {1920, 1088}, 2040},
      {1365, 2048, {2044, 1372}, 3577, {2048, 1376}, 2752},
      {3024, 4032, {4032, 3024}, 15552, {4032, 3008}, 11844},
      {4000, 6000, {4368, 2912}, 16224, {4992, 3328}, 16224},
      {40, 3000, {2996, 28}, 107, {3008, 32}, 94},
  };
  for (const Row& row : rows) {
    const auto qwen2 = smart_resize(row.height, row.width, 28, kQwen2Limits);
    const auto qwen3 = smart_resize(row.height, row.width, 32, kQwen3Limits);
    ASSERT_TRUE(qwen2.ok() && qwen3.ok());
    EXPECT_EQ(qwen2->width, row.qwen2.width) << row.height << " x " << row.width;
    EXPECT_EQ(qwen2->height, row.qwen2.height) << row.height << " x " << row.width;
    EXPECT_EQ(qwen2->width * qwen2->height / (28 * 28), row.qwen2_tokens) << row.height << " x " << row.width;
    EXPECT_EQ(qwen3->width, row.qwen3.width) << row.height << " x " << row.width;
    EXPECT_EQ(qwen3->height, row.qwen3.height) << row.height << " x " << row.width;
    EXPECT_EQ(qwen3->width * qwen3->height / (32 * 32), row.qwen3_tokens) << row.height << " x " << row.width;
  }
}

TEST(SmartResize, AgreesWithTransformers) {
  std::ifstream in(preprocess_test::fixture_folder() / "smart_resize.txt");
  int64_t height, width, factor, want_height, want_width;
  ResizeLimits limits;
  int n_cases = 0;
  for (; in >> height >> width >> factor >> limits.min_pixels >> limits.max_pixels >> want_height >> want_width;
       ++n_cases) {
    const auto size = smart_resize(height, width, factor, limits);
    ASSERT_TRUE(size.ok()) << size.error().message;
    EXPECT_EQ(size->height, want_height) << height << " x " << width << " / " << factor;
    EXPECT_EQ(size->width, want_width) << height << " x " << width << " / " << factor;
  }
  EXPECT_EQ(n_cases, 400);
}

TEST(SmartResize, AspectRatioOfTwoHundredIsTheLast) {
  EXPECT_TRUE(smart_resize(1, 200, 28, {}).ok());
  EXPECT_TRUE(smart_resize(200, 1, 28, {}).ok());
  for (const auto& [height, width] : {std::pair{1, 201}, std::pair{201, 1}, std::pair{10, 2001}}) {
    const auto size = smart_resize(height, width, 28, {});
    ASSERT_FALSE(size.ok());
    EXPECT_EQ(size.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(size.error().message.find("200"), std::string::npos) << size.error().message;
  }
}

TEST(SmartResize, NeverPassesTheMaximum) {
  // Where transformers does: thin pictures, and minima close to the maximum.
  for (const ResizeLimits limits : {ResizeLimits{784, 784}, ResizeLimits{3136, 3136}, ResizeLimits{784, 5 * 784},
                                    ResizeLimits{3136, 1003520}, ResizeLimits{1003520, 1003520}}) {
    for (uint32_t i = 0; i < 3000; ++i) {
      const int64_t height = 1 + preprocess_test::hash32(2 * i) % (1u << (1 + i % 14));
      const int64_t width = 1 + preprocess_test::hash32(2 * i + 1) % (1u << (1 + i / 14 % 14));
      const auto size = smart_resize(height, width, 28, limits);
      if (!size.ok()) {
        EXPECT_GT(std::max(height, width), 200 * std::min(height, width));
        continue;
      }
      EXPECT_LE(size->width * size->height, limits.max_pixels) << height << " x " << width;
      EXPECT_GE(size->width, 28);
      EXPECT_GE(size->height, 28);
      EXPECT_EQ(size->width % 28, 0);
      EXPECT_EQ(size->height % 28, 0);
    }
  }
}

TEST(SmartResize, SenselessArgumentsAreErrors) {
  EXPECT_FALSE(smart_resize(0, 0, 28, {}).ok());
  EXPECT_FALSE(smart_resize(0, 28, 28, {}).ok());
  EXPECT_FALSE(smart_resize(28, -1, 28, {}).ok());
  EXPECT_FALSE(smart_resize(28, 28, 0, {}).ok());
  EXPECT_FALSE(smart_resize(28, 28, 28, {0, 783}).ok());  // not one block fits
  EXPECT_FALSE(smart_resize(28, 28, 28, {5000, 4000}).ok());
  EXPECT_FALSE(smart_resize(INT64_MAX, INT64_MAX, 28, {}).ok());
  EXPECT_FALSE(smart_resize(28, 28, INT64_MAX, {0, INT64_MAX}).ok());
  EXPECT_FALSE(smart_resize(28, 28, 28, {INT64_MAX, INT64_MAX}).ok());
  EXPECT_TRUE(smart_resize(28, 28, 28, {0, INT64_MAX}).ok());
}

}  // namespace
}  // namespace glimpse
