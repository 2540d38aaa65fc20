// Writing PNG: what is written is read back; nonsense is refused.
#include <gtest/gtest.h>

#include "loaders/image/encode.h"
#include "tests/loaders/image_support.h"

namespace glimpse::image_test {
namespace {

Image noise(int width, int height) {
  Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(width) * static_cast<size_t>(height) * 3)};
  uint32_t state = 12345;
  for (uint8_t& value : image.pixels) {
    state = state * 1664525 + 1013904223;
    value = static_cast<uint8_t>(state >> 24);
  }
  return image;
}

TEST(PngEncode, ReadsBackEqual) {
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 300}, {300, 1}, {7, 5}, {64, 64}, {257, 129}}) {
    const Image image = noise(width, height);
    const auto bytes = encode_png(image);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    const auto again = decode_image(bytes.value(), {});
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(again.value().width, width);
    EXPECT_EQ(again.value().height, height);
    EXPECT_EQ(again.value().pixels, image.pixels) << width << " x " << height;
  }
}

TEST(PngEncode, RefusesSizesThatThePixelsContradict) {
  const Image image = noise(4, 4);
  for (const Image& wrong : {Image{0, 4, {}}, Image{4, -1, {}}, Image{4, 5, image.pixels}, Image{3, 4, image.pixels},
                             Image{65536, 1, std::vector<uint8_t>(65536 * 3)}, Image{}}) {
    const auto bytes = encode_png(wrong);
    ASSERT_FALSE(bytes.ok()) << wrong.width << " x " << wrong.height;
    EXPECT_EQ(bytes.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace glimpse::image_test
