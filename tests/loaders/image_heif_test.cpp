// HEIC and AVIF: pixels near Pillow's, whose conversion from YCbCr is another library's; sizes that are measured before
// anything is decoded.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string_view>

#include "tests/loaders/image_support.h"

namespace glimpse {
namespace {

using namespace image_test;
using namespace std::string_view_literals;

std::vector<std::string> heif_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture_folder() / "heif")) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".png") && can_read_heif(name)) names.push_back("heif/" + name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

#define SKIP_WITHOUT_HEIF() \
  if (heif_names().empty()) GTEST_SKIP() << "this build has no libheif, or that has no decoder"

// The bytes with every `from` replaced by `to`, of the same length.
Bytes replaced(Bytes bytes, std::string_view from, std::string_view to, size_t at_least) {
  const Bytes pattern = bytes_of(from), value = bytes_of(to);
  size_t n = 0;
  for (auto at = bytes.begin(); (at = std::search(at, bytes.end(), pattern.begin(), pattern.end())) != bytes.end();
       ++n) {
    at = std::copy(value.begin(), value.end(), at);
  }
  EXPECT_GE(n, at_least);
  return bytes;
}

TEST(ImageHeif, BothFormatsAreReadOrNamedWithAWayToConvertThem) {
  for (const std::string name : {"rgb.heic", "rgb.avif"}) {
    const auto image = decode_image(fixture("heif/" + name), {});
    if (image.ok()) continue;
    EXPECT_EQ(image.error().code, ErrorCode::kUnsupported) << image.error().message;
    EXPECT_NE(image.error().message.find(name == "rgb.heic" ? "HEIC" : "AVIF"), std::string::npos);
    EXPECT_NE(image.error().message.find("heif-convert"), std::string::npos) << image.error().message;
  }
}

TEST(ImageHeif, PixelsAreWithinAFewLevelsOfPillows) {
  SKIP_WITHOUT_HEIF();
  for (const std::string& name : heif_names()) {
    const auto image = decode_image(fixture(name), {});
    ASSERT_TRUE(image.ok()) << name << ": " << image.error().message;
    const auto want = decode_image(fixture(name + ".png"), {});
    ASSERT_TRUE(want.ok()) << name;
    ASSERT_EQ(image->width, want->width) << name;
    ASSERT_EQ(image->height, want->height) << name;
    int worst = 0;
    int64_t sum = 0;
    for (size_t i = 0; i < want->pixels.size(); ++i) {
      const int difference = std::abs(image->pixels[i] - want->pixels[i]);
      worst = std::max(worst, difference);
      sum += difference;
    }
    EXPECT_LE(worst, 8) << name;
    EXPECT_LE(static_cast<double>(sum) / static_cast<double>(want->pixels.size()), 1.0) << name;
  }
}

TEST(ImageHeif, EveryTruncationIsAnError) {
  SKIP_WITHOUT_HEIF();
  for (const std::string& name : heif_names()) {
    const Bytes whole = fixture(name);
    for (size_t n = 0; n<whole.size(); n += whole.size()> 1000 ? 13 : 1) {
      const auto image = decode_image(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)), {});
      ASSERT_FALSE(image.ok()) << name << " of " << whole.size() << " bytes, cut to " << n;
      ASSERT_FALSE(image.error().message.empty());
    }
  }
}

TEST(ImageHeif, DamageIsAnErrorOrAPictureOfTheSizeThatWasSaid) {
  SKIP_WITHOUT_HEIF();
  DecodeOptions options;
  options.limits.max_pixels = 1 << 20;
  std::mt19937 random(1);
  for (const std::string& name : heif_names()) {
    const Bytes whole = fixture(name);
    for (int round = 0; round < 40; ++round) {
      Bytes broken = whole;
      const size_t reach = round % 2 == 0 ? std::min<size_t>(broken.size(), 500) : broken.size();
      for (int k = 0; k < 1 + round / 20; ++k) broken[random() % reach] ^= static_cast<std::byte>(1 << random() % 8);
      const auto image = decode_image(broken, options);
      if (image.ok()) {
        EXPECT_EQ(image->pixels.size(), static_cast<size_t>(image->width) * image->height * 3) << name;
      } else {
        EXPECT_FALSE(image.error().message.empty());
        EXPECT_NE(image.error().code, ErrorCode::kInternal) << image.error().message;
      }
    }
  }
}

// Boxes that say 8 x 8, streams that say 112 x 80: the limit counts what the streams say.
TEST(ImageHeif, SizesInsideTheStreamsCount) {
  SKIP_WITHOUT_HEIF();
  DecodeOptions options;
  options.limits.max_pixels = 5000;
  for (const std::string& name : heif_names()) {
    if (name != "heif/rgb.heic" && name != "heif/rgb.avif") continue;
    const Bytes small =
        replaced(fixture(name), "ispe\0\0\0\0\0\0\0\x70\0\0\0\x50"sv, "ispe\0\0\0\0\0\0\0\x08\0\0\0\x08"sv, 1);
    const auto image = decode_image(small, options);
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << image.error().message;
    EXPECT_NE(image.error().message.find("112 x 80"), std::string::npos) << image.error().message;
  }
}

TEST(ImageHeif, SizesOfBoxesAndGridsAreRefusedBeforeAllocation) {
  SKIP_WITHOUT_HEIF();
  for (const std::string& name : heif_names()) {
    Bytes large;
    if (name == "heif/rgb.avif") {
      large = replaced(fixture(name), "ispe\0\0\0\0\0\0\0\x70\0\0\0\x50"sv, "ispe\0\0\0\0\0\0\xfe\0\0\0\xfe\0"sv, 1);
    } else if (name == "heif/grid.heic") {
      large = replaced(fixture(name), "\0\0\1\1\0\x78\0\x64"sv, "\0\0\1\1\xfe\0\xfe\0"sv, 1);
    } else {
      continue;
    }
    const auto image = decode_image(large, {});
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << image.error().message;
    EXPECT_NE(image.error().message.find("65024"), std::string::npos) << image.error().message;
  }
}

TEST(ImageHeif, MemoryIsLimited) {
  SKIP_WITHOUT_HEIF();
  DecodeOptions options;
  options.limits.max_memory = 1 << 20;
  for (const std::string& name : heif_names()) {
    const auto image = decode_image(fixture(name), options);
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << image.error().message;
    EXPECT_NE(image.error().message.find("MiB"), std::string::npos) << image.error().message;
  }
}

}  // namespace
}  // namespace glimpse
