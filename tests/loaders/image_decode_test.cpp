// Good files: the pixels are Pillow's (tests/loaders/data/image/make_fixtures.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "loaders/image/decoder.h"
#include "loaders/image/orient.h"
#include "loaders/image/orientation.h"
#include "tests/loaders/image_support.h"

namespace glimpse {
namespace {

using namespace image_test;

TEST(ImageDecode, EveryFixtureHasTheSamePixelsAsPillow) {
  const bool webp = has_webp();
  std::map<std::string, int> n_by_kind;
  for (const Expected& expected : read_expected()) {
    if (!is_readable(expected.name)) continue;
    const auto image = decode_image(fixture(expected.name), {});
    ASSERT_TRUE(image.ok()) << expected.name << ": " << image.error().message;
    EXPECT_EQ(image->width, expected.width) << expected.name;
    EXPECT_EQ(image->height, expected.height) << expected.name;
    EXPECT_EQ(image->pixels.size(), static_cast<size_t>(image->width) * image->height * 3) << expected.name;
    EXPECT_EQ(fnv1a64(image->pixels), expected.hash) << expected.name;
    ++n_by_kind[expected.name.substr(0, expected.name.find('_'))];
  }
  EXPECT_GE(n_by_kind["jpeg"], 20);
  EXPECT_GE(n_by_kind["png"], 50);
  EXPECT_GE(n_by_kind["bmp"], 25);
  EXPECT_GE(n_by_kind["ppm"], 10);
  EXPECT_GE(n_by_kind["exif"], webp ? 27 : 19);
  EXPECT_GE(n_by_kind["webp"], webp ? 8 : 0);
  EXPECT_GE(n_by_kind["gif"], has_gif() ? 12 : 0);
  EXPECT_GE(n_by_kind["tiff"], has_tiff() ? 25 : 0);
  EXPECT_GE(n_by_kind["odd"], 11);
  EXPECT_GE(n_by_kind["turned"], 29);
}

TEST(ImageDecode, ReadsThePhotograph) {
  const auto image = load_image(GLIMPSE_TEST_DIR "/data/chelsea.jpg", {});
  ASSERT_TRUE(image.ok()) << image.error().message;
  EXPECT_EQ(image->width, 451);
  EXPECT_EQ(image->height, 300);
}

TEST(ImageDecode, WebpIsReadWhereLibwebpIs) {
  if (!has_webp()) {
    const auto image = decode_image(fixture("webp_1x1.webp"), {});
    EXPECT_NE(image.error().message.find("WebP"), std::string::npos) << image.error().message;
    GTEST_SKIP() << "this build has no libwebp";
  }
  EXPECT_TRUE(decode_image(fixture("webp_lossy.webp"), {}).ok());
}

TEST(ImageDecode, OrientationCanBeLeftAlone) {
  DecodeOptions as_stored;
  as_stored.apply_exif_orientation = false;
  const auto first = decode_image(fixture("exif_1.png"), as_stored);
  ASSERT_TRUE(first.ok());
  for (int orientation = 2; orientation <= 8; ++orientation) {
    const std::string name = "exif_" + std::to_string(orientation) + ".png";
    const auto stored = decode_image(fixture(name), as_stored);
    const auto upright = decode_image(fixture(name), {});
    ASSERT_TRUE(stored.ok() && upright.ok());
    EXPECT_EQ(stored->pixels, first->pixels) << name;
    EXPECT_NE(upright->pixels, first->pixels) << name;
    EXPECT_EQ(upright->width, orientation >= 5 ? first->height : first->width) << name;
  }
}

// A 2 x 3 picture of the numbers 0..5, as in the table of the Exif standard.
TEST(ImageOrientation, PutsRowZeroAndColumnZeroWhereExifSays) {
  const std::vector<std::vector<int>> want = {{0, 1, 2, 3, 4, 5}, {1, 0, 3, 2, 5, 4}, {5, 4, 3, 2, 1, 0},
                                              {4, 5, 2, 3, 0, 1}, {0, 2, 4, 1, 3, 5}, {4, 2, 0, 5, 3, 1},
                                              {5, 3, 1, 4, 2, 0}, {1, 3, 5, 0, 2, 4}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    Image image{2, 3, {}};
    for (int i = 0; i < 6; ++i) {
      for (int c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(i * 10 + c));
    }
    const Image turned = apply_orientation(image, orientation);
    EXPECT_EQ(turned.width, orientation >= 5 ? 3 : 2);
    EXPECT_EQ(turned.height, orientation >= 5 ? 2 : 3);
    for (size_t i = 0; i < 6; ++i) {
      for (size_t c = 0; c < 3; ++c) {
        EXPECT_EQ(turned.pixels[i * 3 + c], want[static_cast<size_t>(orientation - 1)][i] * 10 + static_cast<int>(c))
            << "orientation " << orientation << ", pixel " << i;
      }
    }
  }
}

TEST(ImageOrientation, TurningBackGivesTheSamePicture) {
  Image image{131, 77, {}};  // more than one tile, and no multiple of it
  for (size_t i = 0; i < 131 * 77 * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(i * 2654435761u >> 24));
  const int inverse[] = {0, 1, 2, 3, 4, 5, 8, 7, 6};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image back = apply_orientation(apply_orientation(image, orientation), inverse[orientation]);
    EXPECT_EQ(back.width, image.width);
    EXPECT_TRUE(back.pixels == image.pixels) << orientation;
  }
}

TEST(ImageOrientation, DamagedExifMeansUpright) {
  const Bytes whole = bytes_of({"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 28});
  ASSERT_EQ(exif_orientation(whole).value_or(1), 6);
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_EQ(exif_orientation(std::span(whole).first(n)).value_or(1), 1) << n << " bytes";
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes broken = whole;
      broken[i] ^= static_cast<std::byte>(1 << bit);
      const int orientation = exif_orientation(broken).value_or(1);
      EXPECT_TRUE(orientation >= 1 && orientation <= 8);
    }
  }
}

TEST(ImageAlpha, OverWhiteIsRoundedToNearest) {
  for (unsigned value = 0; value < 256; ++value) {
    for (unsigned alpha = 0; alpha < 256; ++alpha) {
      const unsigned scaled = value * alpha + 255 * (255 - alpha);
      EXPECT_EQ(over_white(value, alpha), (2 * scaled + 255) / 510) << value << " " << alpha;
    }
    EXPECT_EQ(over_white(value, 255), value);
    EXPECT_EQ(over_white(value, 0), 255);
  }
}

TEST(ImageDecode, LoadErrorsNameTheFile) {
  const auto missing = load_image("/nonexistent/cat.jpg", {});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("/nonexistent/cat.jpg"), std::string::npos);
  const auto text = load_image((fixture_folder() / "expected.txt").string(), {});
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(text.error().message.find("expected.txt"), std::string::npos);
}

}  // namespace
}  // namespace glimpse
