// Animated GIF and WebP: every frame as Pillow shows it, their times, and damage.
#include "loaders/image/animation.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace glimpse {
namespace {

std::string folder() {
  return GLIMPSE_TEST_DIR "/loaders/data/animation/";
}

std::vector<std::byte> bytes_of(const std::string& name) {
  std::ifstream in(folder() + name, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

bool is_unsupported(const Result<std::unique_ptr<Animation>>& opened) {  // built without its library
  return !opened.ok() && opened.error().code == ErrorCode::kUnsupported;
}

struct Case {
  const char* name;
  int64_t n_frames;
  double seconds;
};
class Animations : public ::testing::TestWithParam<Case> {};

TEST_P(Animations, FramesAreThoseOfPillow) {
  const std::vector<std::byte> bytes = bytes_of(GetParam().name);
  const auto opened = open_animation(bytes, {});
  if (is_unsupported(opened)) GTEST_SKIP() << opened.error().message;
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  Animation& animation = *opened.value();
  const auto want = load_image(folder() + GetParam().name + ".png", {});
  ASSERT_TRUE(want.ok()) << want.error().message;
  const AnimationInfo info = animation.info();
  EXPECT_EQ(info.width, want.value().width);
  EXPECT_EQ(info.height * info.n_frames, want.value().height);
  EXPECT_EQ(info.n_frames, GetParam().n_frames);
  EXPECT_NEAR(info.seconds, GetParam().seconds, 1e-9);
  const auto frame_bytes = static_cast<size_t>(info.width * info.height * 3);
  for (int64_t i = 0; i < info.n_frames; ++i) {
    const Status drawn = animation.next();
    ASSERT_TRUE(drawn.ok()) << drawn.error().message;
    ASSERT_EQ(animation.canvas().pixels.size(), frame_bytes);
    const auto* expected = want.value().pixels.data() + static_cast<size_t>(i) * frame_bytes;
    int worst = 0;
    for (size_t k = 0; k < frame_bytes; ++k) {
      worst = std::max(worst, std::abs(int{animation.canvas().pixels[k]} - int{expected[k]}));
    }
    // Half-transparent colours are rounded once here and twice there.
    EXPECT_LE(worst, std::string(GetParam().name) == "half.webp" ? 1 : 0) << "frame " << i;
  }
  EXPECT_FALSE(animation.next().ok()) << "none is left";
}

TEST_P(Animations, WhatIsCutShortIsAnErrorOrFewerFrames) {
  const std::vector<std::byte> bytes = bytes_of(GetParam().name);
  for (size_t n = 0; n < bytes.size(); n += 3) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    const auto opened = open_animation(cut, {});
    if (!opened.ok()) {
      EXPECT_FALSE(opened.error().message.empty());
      continue;
    }
    for (int64_t i = 0; i < opened.value()->info().n_frames && opened.value()->next().ok(); ++i) {
    }
  }
}

TEST_P(Animations, LimitsAreObeyed) {
  const std::vector<std::byte> bytes = bytes_of(GetParam().name);
  DecodeOptions options;
  options.limits.max_pixels = 36 * 24 - 1;
  const auto opened = open_animation(bytes, options);
  if (is_unsupported(opened)) GTEST_SKIP() << opened.error().message;
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::kTooLarge);
  options.limits = {};
  options.limits.max_memory = 1000;
  EXPECT_FALSE(open_animation(bytes, options).ok());
}

INSTANTIATE_TEST_SUITE_P(Files, Animations,
                         ::testing::Values(Case{"changes.gif", 4, 0.45}, Case{"cleared.gif", 4, 0.32},
                                           Case{"kept.gif", 4, 0.32}, Case{"restored.gif", 4, 0.32},
                                           Case{"one.gif", 1, 0.1}, Case{"opaque.webp", 4, 0.39},
                                           Case{"half.webp", 4, 0.28}, Case{"lossy.webp", 4, 0.28},
                                           Case{"still.webp", 1, 0.1}),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

// Its canvas stands as decode_image() turns it, and so does its size.
TEST(AnimationFile, ATurnedStillPictureIsUpright) {
  const std::string path = GLIMPSE_TEST_DIR "/loaders/data/image/turned_xmp_element.webp";
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto opened = open_animation(std::as_bytes(std::span(text.data(), text.size())), {});
  if (is_unsupported(opened)) GTEST_SKIP() << opened.error().message;
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const auto want = load_image(path, {});
  ASSERT_TRUE(want.ok()) << want.error().message;
  ASSERT_TRUE(opened.value()->next().ok());
  EXPECT_EQ(opened.value()->info().width, want.value().width);
  EXPECT_EQ(opened.value()->info().height, want.value().height);
  EXPECT_EQ(opened.value()->canvas().pixels, want.value().pixels);
}

// Thirty kilobytes that would take minutes to draw.
TEST(AnimationFile, FramesTogetherAreBounded) {
  const auto gif_of = [](int n_frames) {
    std::string text("GIF89a\0\x10\0\x10\x80\0\0\0\0\0\xff\xff\xff", 19);  // 4096 x 4096, two colours
    for (int i = 0; i < n_frames; ++i) text += std::string(",\0\0\0\0\0\x10\0\x10\0\2\2\x4c\1\0", 15);
    text += ';';
    const auto* data = reinterpret_cast<const std::byte*>(text.data());
    return std::vector<std::byte>(data, data + text.size());
  };
  const std::vector<std::byte> few = gif_of(2048), many = gif_of(2049);
  const auto opened = open_animation(few, {});
  if (is_unsupported(opened)) GTEST_SKIP() << opened.error().message;
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_EQ(opened.value()->info().n_frames, 2048);
  const auto refused = open_animation(many, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge) << refused.error().message;
}

TEST(AnimationFile, OtherFormatsAreNone) {
  std::ifstream in(GLIMPSE_TEST_DIR "/loaders/data/image/png_rgb8.png", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto opened = open_animation(std::as_bytes(std::span(text.data(), text.size())), {});
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace glimpse
