// A picture resized while it is read is the picture read whole, turned upright and then resized.
#include <gtest/gtest.h>

#include "engine/preprocess/resize.h"
#include "loaders/image/orient.h"
#include "tests/engine/preprocess_support.h"
#include "tests/engine/whole_resize.h"

namespace glimpse {
namespace {

using preprocess_test::pattern;
using preprocess_test::resize_isas;

// Gives the rows of an image as if it were stored so that `orientation` turns it upright.
class StoredImage final : public ImageReader {
 public:
  StoredImage(const Image& image, int orientation) : image_(image) {
    info_.width = image.width;
    info_.height = image.height;
    info_.orientation = orientation;
  }
  int64_t most_rows() const { return most_rows_; }

 protected:
  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    most_rows_ = std::max(most_rows_, n_rows);
    if (fail_at_ >= 0 && y_ + n_rows > fail_at_) return make_error(ErrorCode::kTruncated, "cut");
    std::copy_n(image_.pixels.data() + y_ * image_.width * 3, n_rows * image_.width * 3, rgb);
    y_ += n_rows;
    return {};
  }

 public:
  int64_t fail_at_ = -1;

 private:
  const Image& image_;
  int64_t y_ = 0, most_rows_ = 0;
};

struct Sides {
  int width, height;  // as stored
  ImageSize size;     // of the result, upright
};

void expect_same_bytes(const Sides& c, int orientation, Isa isa, ThreadTeam* team) {
  const Image stored = pattern("noise", static_cast<uint32_t>(c.width * 31 + c.height), c.width, c.height);
  const Image upright = apply_orientation(stored, orientation);
  const auto want = resize_bicubic_on(Isa::kRef, upright, c.size, nullptr);
  StoredImage reader(stored, orientation);
  const auto got = read_resized_on(isa, reader, c.size, team, nullptr);
  ASSERT_TRUE(want.ok() && got.ok());
  EXPECT_EQ(got->width, c.size.width);
  EXPECT_EQ(got->height, c.size.height);
  EXPECT_TRUE(got->pixels == want->pixels) << isa_name(isa) << ", orientation " << orientation << ", " << c.width
                                           << " x " << c.height << " to " << c.size.width << " x " << c.size.height;
  EXPECT_LE(reader.most_rows(), 256);
}

// More rows than a strip has (256), sides that stay, shrink and grow, and sizes on both sides of the rule for which
// pass goes first.
constexpr Sides kCases[] = {
    {40, 700, {28, 308}}, {40, 700, {28, 28}},   {40, 700, {40, 84}},  {40, 700, {84, 700}},  {40, 700, {40, 700}},
    {33, 515, {308, 28}}, {33, 515, {56, 1036}}, {700, 40, {28, 280}}, {700, 40, {280, 28}},  {257, 257, {28, 28}},
    {1, 300, {28, 28}},   {300, 1, {28, 28}},    {7, 5, {700, 504}},   {513, 300, {28, 256}}, {64, 1024, {32, 512}},
};

TEST(ReadResized, IsResizingTheUprightPictureForEveryOrientation) {
  for (const Sides& c : kCases) {
    for (int orientation = 1; orientation <= 8; ++orientation) {
      for (const Isa isa : resize_isas()) expect_same_bytes(c, orientation, isa, nullptr);
    }
  }
}

TEST(ReadResized, ThreadsGiveTheSameBytes) {
  for (const int n_threads : {2, 3, 7}) {
    ThreadTeam team(n_threads);
    for (const Sides& c : kCases) {
      for (const int orientation : {1, 6, 7}) expect_same_bytes(c, orientation, detect_isa(), &team);
    }
  }
}

TEST(ReadResized, EverySmallSizeInEveryOrientation) {
  for (int width = 1; width <= 40; width += 3) {
    for (int height = 1; height <= 40; height += 4) {
      for (int orientation = 1; orientation <= 8; ++orientation) {
        for (const ImageSize size : {ImageSize{28, 28}, ImageSize{12, 17}}) {
          expect_same_bytes({width, height, size}, orientation, detect_isa(), nullptr);
        }
      }
    }
  }
}

TEST(ReadResized, TheReadersErrorIsTheError) {
  const Image image = pattern("noise", 1, 40, 700);
  StoredImage reader(image, 1);
  reader.fail_at_ = 600;
  const auto got = read_resized(reader, {28, 28}, nullptr, nullptr);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, ErrorCode::kTruncated);
}

TEST(ReadResized, SizesThatMakeNoSenseAreErrors) {
  const Image image = pattern("noise", 1, 40, 70);
  for (const ImageSize size : {ImageSize{0, 28}, ImageSize{28, -1}, ImageSize{65536, 28}}) {
    StoredImage reader(image, 1);
    EXPECT_EQ(read_resized(reader, size, nullptr, nullptr).error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace glimpse
