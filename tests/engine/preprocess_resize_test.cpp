#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "engine/preprocess/resize.h"
#include "tests/engine/preprocess_support.h"
#include "tests/engine/whole_resize.h"

namespace glimpse {
namespace {

using preprocess_test::fnv1a64;
using preprocess_test::pattern;
using preprocess_test::resize_isas;

struct Case {
  std::string kind;
  uint32_t seed = 0;
  int width = 0, height = 0;
  ImageSize size;
  uint64_t hash = 0;
};

std::vector<Case> read_cases() {
  std::ifstream in(preprocess_test::fixture_folder() / "resize.txt");
  std::vector<Case> cases;
  for (Case c; in >> c.kind >> c.seed >> c.width >> c.height >> c.size.width >> c.size.height >> std::hex >> c.hash >>
               std::dec;) {
    cases.push_back(c);
  }
  return cases;
}

TEST(ResizeBicubic, GivesPillowsBytesOnEveryIsa) {
  const std::vector<Case> cases = read_cases();
  ASSERT_GE(cases.size(), 30u);
  for (Isa isa : resize_isas()) {
    for (const Case& c : cases) {
      const auto resized = resize_bicubic_on(isa, pattern(c.kind, c.seed, c.width, c.height), c.size, nullptr);
      ASSERT_TRUE(resized.ok()) << resized.error().message;
      EXPECT_EQ(resized->width, c.size.width);
      EXPECT_EQ(resized->height, c.size.height);
      EXPECT_EQ(fnv1a64(resized->pixels), c.hash) << isa_name(isa) << ": " << c.kind << " " << c.width << " x "
                                                  << c.height << " to " << c.size.width << " x " << c.size.height;
    }
  }
}

TEST(ResizeBicubic, ThreadsAndIsasGiveTheSameBytes) {
  for (const Case& c : read_cases()) {
    if (c.width * c.height > 400000) continue;
    const Image image = pattern(c.kind, c.seed, c.width, c.height);
    for (int n_threads : {1, 2, 3, 7}) {
      ThreadTeam team(n_threads);
      for (Isa isa : resize_isas()) {
        const auto resized = resize_bicubic_on(isa, image, c.size, &team);
        ASSERT_TRUE(resized.ok());
        EXPECT_EQ(fnv1a64(resized->pixels), c.hash)
            << isa_name(isa) << ", " << n_threads << " threads, " << c.width << " x " << c.height << " to "
            << c.size.width << " x " << c.size.height;
      }
    }
  }
}

// Every width from 1 to 70 and its neighbours: all remainders of all blocks of the kernels.
TEST(ResizeBicubic, IsasAgreeOnEverySmallWidth) {
  for (int width = 1; width <= 70; ++width) {
    const Image image = pattern("noise", static_cast<uint32_t>(width), width, 9);
    for (const ImageSize size : {ImageSize{width + 5, 4}, ImageSize{(width + 2) / 3, 13}, ImageSize{width, 5}}) {
      const auto want = resize_bicubic_on(Isa::kRef, image, size, nullptr);
      ASSERT_TRUE(want.ok());
      for (Isa isa : resize_isas()) {
        const auto got = resize_bicubic_on(isa, image, size, nullptr);
        ASSERT_TRUE(got.ok());
        EXPECT_TRUE(got->pixels == want->pixels) << isa_name(isa) << ", " << width << " to " << size.width;
      }
    }
  }
}

TEST(ResizeBicubic, FollowsTheSelectedIsa) {
  const Image image = pattern("photo", 1, 100, 80);
  const auto plain = resize_bicubic(image, {56, 28}, nullptr);
  ASSERT_TRUE(plain.ok());
  setenv("GLIMPSE_FORCE_ISA", "ref", 1);
  const auto forced = resize_bicubic(image, {56, 28}, nullptr);
  setenv("GLIMPSE_FORCE_ISA", "sse9", 1);
  const auto unknown = resize_bicubic(image, {56, 28}, nullptr);
  unsetenv("GLIMPSE_FORCE_ISA");
  ASSERT_TRUE(forced.ok());
  EXPECT_TRUE(forced->pixels == plain->pixels);
  EXPECT_FALSE(unknown.ok());
}

TEST(ResizeBicubic, ConstantPicturesStayConstant) {
  for (int number : {0, 1, 127, 128, 254, 255}) {
    const auto level = static_cast<uint8_t>(number);
    Image image{37, 23, std::vector<uint8_t>(37 * 23 * 3, level)};
    for (const ImageSize size : {ImageSize{28, 28}, ImageSize{112, 84}, ImageSize{1, 1}, ImageSize{37, 100}}) {
      for (Isa isa : resize_isas()) {
        const auto resized = resize_bicubic_on(isa, image, size, nullptr);
        ASSERT_TRUE(resized.ok());
        for (uint8_t value : resized->pixels) ASSERT_EQ(value, level);
      }
    }
  }
}

TEST(ResizeBicubic, RampsStayMonotone) {
  Image image{256, 1, {}};
  for (int x = 0; x < 256; ++x) image.pixels.insert(image.pixels.end(), 3, static_cast<uint8_t>(x));
  for (int64_t width : {28, 100, 255, 257, 1000}) {
    const auto resized = resize_bicubic(image, {width, 1}, nullptr);
    ASSERT_TRUE(resized.ok());
    for (size_t i = 3; i < resized->pixels.size(); ++i) EXPECT_GE(resized->pixels[i], resized->pixels[i - 3]) << width;
  }
}

TEST(ResizeBicubic, SameSizeIsACopy) {
  const Image image = pattern("noise", 3, 31, 17);
  const auto resized = resize_bicubic(image, {31, 17}, nullptr);
  ASSERT_TRUE(resized.ok());
  EXPECT_EQ(resized->pixels, image.pixels);
}

// By hand from the kernel. 2 to 4: output 1 has its center at 0.75 of the input, so taps at distances 0.25 and 0.75:
// K(0.25) = 0.8671875, K(0.75) = 0.2265625, sum 1.09375; the taps to the left and right of the picture are dropped.
TEST(ResizeFilter, WeightsOfTwoToFour) {
  const ResizeFilter filter = make_bicubic_filter(2, 4);
  ASSERT_EQ(filter.first.size(), 4u);
  ASSERT_EQ(filter.n_taps, 4);
  const double near = 0.8671875, middle = 0.2265625, far = -0.0703125;
  const std::vector<std::vector<double>> want = {{near / (near + far), far / (near + far)},
                                                 {near / (near + middle), middle / (near + middle)},
                                                 {middle / (near + middle), near / (near + middle)},
                                                 {far / (near + far), near / (near + far)}};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(filter.first[i], 0);
    ASSERT_EQ(filter.count[i], 2);
    for (size_t k = 0; k < 2; ++k) {
      EXPECT_NEAR(filter.weights[i * 4 + k], want[i][k] * (1 << kResizeWeightBits), 0.5001) << i << " " << k;
    }
  }
}

// 4 to 2: the kernel is twice as wide. Output 0 has its center at 1, taps at distances 0.25, 0.25, 0.75, 1.25 (all of
// the picture; the four taps to its left are dropped): K = 0.8671875, 0.8671875, 0.2265625, -0.0703125.
TEST(ResizeFilter, WeightsOfFourToTwo) {
  const ResizeFilter filter = make_bicubic_filter(4, 2);
  ASSERT_EQ(filter.first.size(), 2u);
  const double kernel[] = {0.8671875, 0.8671875, 0.2265625, -0.0703125}, sum = 1.890625;
  ASSERT_EQ(filter.first[0], 0);
  ASSERT_EQ(filter.count[0], 4);
  ASSERT_EQ(filter.first[1], 0);
  ASSERT_EQ(filter.count[1], 4);
  for (size_t k = 0; k < 4; ++k) {
    const double want = kernel[k] / sum * (1 << kResizeWeightBits);
    EXPECT_NEAR(filter.weights[k], want, 0.5001);
    EXPECT_NEAR(filter.weights[static_cast<size_t>(filter.n_taps) + 3 - k], want, 0.5001);
  }
}

// 5 to 3: scale 5/3, so distances are multiples of 3/5 of a pixel. Output 1 is centered on input 2:
// K(0) = 1, K(0.6) = 0.424, K(1.2) = -0.064.
TEST(ResizeFilter, WeightsOfFiveToThree) {
  const ResizeFilter filter = make_bicubic_filter(5, 3);
  ASSERT_EQ(filter.first.size(), 3u);
  ASSERT_EQ(filter.first[1], 0);
  ASSERT_EQ(filter.count[1], 5);
  const double kernel[] = {-0.064, 0.424, 1, 0.424, -0.064}, sum = 1.72;
  for (size_t k = 0; k < 5; ++k) {
    EXPECT_NEAR(filter.weights[static_cast<size_t>(filter.n_taps) + k], kernel[k] / sum * (1 << kResizeWeightBits),
                0.5001);
  }
}

TEST(ResizeFilter, WeightsSumToOneAndSplitExactly) {
  for (const auto& [in, out] : {std::pair{1, 28}, std::pair{6000, 1008}, std::pair{100, 99}, std::pair{99, 100},
                                std::pair{65535, 28}, std::pair{3, 4000}}) {
    const ResizeFilter filter = make_bicubic_filter(in, out);
    for (size_t i = 0; i < filter.first.size(); ++i) {
      ASSERT_GE(filter.first[i], 0);
      ASSERT_LE(filter.first[i] + filter.count[i], in);
      int64_t sum = 0, size = 0;
      for (int64_t k = 0; k < filter.n_taps; ++k) {
        const int32_t weight = filter.weights[i * static_cast<size_t>(filter.n_taps) + static_cast<size_t>(k)];
        const int16_t* split = filter.split.data() + static_cast<int64_t>(i) * filter.n_taps * 2 + k / 4 * 8 + k % 4;
        ASSERT_EQ((split[0] << kResizeLowBits) + split[4], weight);
        ASSERT_GE(split[4], 0);
        ASSERT_TRUE(k < filter.count[i] || weight == 0);
        sum += weight;
        size += std::abs(weight);
      }
      EXPECT_NEAR(static_cast<double>(sum), 1 << kResizeWeightBits, filter.count[i]);
      // Then 2^21 + 255 * size fits int32, which the kernels rely on.
      EXPECT_LT(size, (int64_t{INT32_MAX} - (1 << 21)) / 255);
    }
  }
}

TEST(ResizeTiming, LargePicturesAreQuick) {
  const Image image = pattern("noise", 5, 6000, 4000);
  const auto start = std::chrono::steady_clock::now();
  const auto resized = resize_bicubic(image, {1204, 812}, nullptr);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(resized.ok());
  RecordProperty("milliseconds", static_cast<int>(seconds.count() * 1000));
  EXPECT_LT(seconds.count(), 20.0);  // about 0.05 s with AVX2, and 20 with sanitizers
}

TEST(ResizeBicubic, SenselessArgumentsAreErrors) {
  const Image image = pattern("noise", 3, 8, 8);
  EXPECT_FALSE(resize_bicubic(image, {0, 8}, nullptr).ok());
  EXPECT_FALSE(resize_bicubic(image, {8, -1}, nullptr).ok());
  EXPECT_FALSE(resize_bicubic(image, {INT64_MAX, 8}, nullptr).ok());
  EXPECT_FALSE(resize_bicubic({}, {8, 8}, nullptr).ok());
  EXPECT_FALSE(resize_bicubic({8, 9, image.pixels}, {8, 8}, nullptr).ok());  // fewer pixels than it says
}

}  // namespace
}  // namespace glimpse
