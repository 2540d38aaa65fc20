// Boxes in answers: the grounding format, whole and damaged; pixels; overlap; the picture with boxes on it.
#include "tools/boxes/boxes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loaders/image/encode.h"
#include "loaders/image/image.h"

namespace glimpse::boxes {
namespace {

using testing::HasSubstr;

std::string box(const std::string& corners) {
  return "<|box_start|>" + corners + "<|box_end|>";
}
std::string ref(const std::string& label) {
  return "<|object_ref_start|>" + label + "<|object_ref_end|>";
}

void expect_box(const Box& b, const std::string& label, double x1, double y1, double x2, double y2) {
  EXPECT_EQ(b.label, label);
  EXPECT_EQ(b.x1, x1);
  EXPECT_EQ(b.y1, y1);
  EXPECT_EQ(b.x2, x2);
  EXPECT_EQ(b.y2, y2);
}

TEST(Boxes, ReadsLabelAndCorners) {
  const auto found = parse_boxes("Here: " + ref("red star") + box("(120,30),(450,990)") + "<|im_end|>");
  ASSERT_EQ(found.size(), 1u);
  expect_box(found[0], "red star", 120, 30, 450, 990);
}

TEST(Boxes, OneLabelMayHaveSeveralBoxes) {
  const auto found =
      parse_boxes(ref("a") + box("(1,2),(3,4)") + box("(5,6),(7,8)") + " and " + ref("b") + box("(9,10),(11,12)"));
  ASSERT_EQ(found.size(), 3u);
  expect_box(found[1], "a", 5, 6, 7, 8);
  expect_box(found[2], "b", 9, 10, 11, 12);
}

TEST(Boxes, BoxWithoutLabelHasNone) {
  const auto found = parse_boxes(box("(1, 2), (3, 4)"));
  ASSERT_EQ(found.size(), 1u);
  expect_box(found[0], "", 1, 2, 3, 4);
}

TEST(Boxes, CornersAreOrderedAndCutToThePicture) {
  const auto found = parse_boxes(box("(900,-5),(100,4000)"));
  ASSERT_EQ(found.size(), 1u);
  expect_box(found[0], "", 100, 0, 900, 1000);
}

TEST(Boxes, WhatIsNoBoxIsLeftOut) {
  for (const char* corners : {"", "(1,2)", "(1,2),(3)", "(1,2),(3,4", "(1,2),(3,4),(5,6)", "(a,2),(3,4)", "1,2,3,4",
                              "(1,2)(3,4)", "(99999999999999999999,2),(3,4)"}) {
    EXPECT_TRUE(parse_boxes(box(corners)).empty()) << corners;
  }
  EXPECT_TRUE(parse_boxes("").empty());
  EXPECT_TRUE(parse_boxes("no box at all (1,2),(3,4)").empty());
  EXPECT_TRUE(parse_boxes("<|box_start|>(1,2),(3,4)").empty()) << "cut short";
  EXPECT_TRUE(parse_boxes("<|object_ref_start|>red").empty());
}

TEST(Boxes, DamageDoesNotHideTheNextBox) {
  const auto found = parse_boxes("<|box_start|>(1,2),<|box_start|>(3,4),(5,6)<|box_end|>");
  ASSERT_EQ(found.size(), 1u);
  expect_box(found[0], "", 3, 4, 5, 6);
  const auto after = parse_boxes("<|object_ref_start|>cut " + ref("whole") + box("(1,1),(2,2)"));
  ASSERT_EQ(after.size(), 1u);
  EXPECT_EQ(after[0].label, "whole");
}

TEST(Boxes, PixelsAreThousandthsOfThePicture) {
  const Box pixels = to_pixels({"x", 100, 250, 500, 1000}, 640, 480);
  expect_box(pixels, "x", 64, 120, 320, 480);
}

TEST(Boxes, OverlapIsIntersectionOverUnion) {
  const Box a{"", 0, 0, 10, 10};
  EXPECT_EQ(overlap(a, a), 1);
  EXPECT_DOUBLE_EQ(overlap(a, {"", 5, 0, 15, 10}), 1.0 / 3);
  EXPECT_EQ(overlap(a, {"", 10, 0, 20, 10}), 0) << "they touch";
  EXPECT_EQ(overlap({"", 5, 5, 5, 5}, {"", 5, 5, 5, 5}), 0) << "no area";
}

class DrawBoxes : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("glimpse_boxes_" + std::to_string(::getpid()) + "_" +
                                                        testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    Image grey{100, 60, std::vector<uint8_t>(100 * 60 * 3, 128)};
    const auto bytes = encode_png(grey);
    ASSERT_TRUE(bytes.ok());
    std::ofstream(file("in.png"), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.value().data()), static_cast<std::streamsize>(bytes.value().size()));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }
  static std::vector<int> pixel(const Image& image, int x, int y) {
    const auto at = image.pixels.begin() + (y * image.width + x) * 3;
    return {at[0], at[1], at[2]};
  }
  std::filesystem::path folder_;
};

TEST_F(DrawBoxes, FrameLiesOnTheBoxAndLeavesItsInsideAlone) {
  ASSERT_EQ(draw_boxes(file("in.png"), {{"", 200, 250, 800, 750}}, file("out.png"), false), "");
  const auto image = load_image(file("out.png"), {});
  ASSERT_TRUE(image.ok());
  ASSERT_EQ(image.value().width, 100);
  ASSERT_EQ(image.value().height, 60);
  const std::vector<int> grey = {128, 128, 128}, edge = {255, 255, 255};
  // The box is x 20..80, y 15..45; lines of 2 pixels inside it, an edge of 1 pixel around and within.
  for (const auto& [x, y] : {std::pair{20, 30}, {21, 30}, {79, 30}, {50, 15}, {50, 44}, {20, 15}}) {
    EXPECT_NE(pixel(image.value(), x, y), grey) << x << ' ' << y;
    EXPECT_NE(pixel(image.value(), x, y), edge) << x << ' ' << y;
  }
  for (const auto& [x, y] : {std::pair{19, 30}, {22, 30}, {80, 30}, {50, 14}, {50, 45}}) {
    EXPECT_EQ(pixel(image.value(), x, y), edge) << x << ' ' << y;
  }
  for (const auto& [x, y] : {std::pair{18, 30}, {23, 30}, {50, 30}, {81, 30}, {0, 0}, {99, 59}}) {
    EXPECT_EQ(pixel(image.value(), x, y), grey) << x << ' ' << y;
  }
}

TEST_F(DrawBoxes, BoxesAtTheBorderAndWithoutAreaAreDrawnWithinThePicture) {
  ASSERT_EQ(draw_boxes(file("in.png"), {{"", 0, 0, 1000, 1000}, {"", 500, 500, 500, 500}, {"", 1000, 1000, 1000, 1000}},
                       file("out.png"), false),
            "");
  const auto image = load_image(file("out.png"), {});
  ASSERT_TRUE(image.ok());
  EXPECT_NE(pixel(image.value(), 0, 0), pixel(image.value(), 30, 30));
}

TEST_F(DrawBoxes, BoxesHaveDifferentColours) {
  ASSERT_EQ(draw_boxes(file("in.png"), {{"", 0, 0, 400, 1000}, {"", 600, 0, 1000, 1000}}, file("out.png"), false), "");
  const auto image = load_image(file("out.png"), {});
  ASSERT_TRUE(image.ok());
  EXPECT_NE(pixel(image.value(), 0, 30), pixel(image.value(), 60, 30));
}

TEST_F(DrawBoxes, ExistingFileIsKeptUnlessAskedFor) {
  std::ofstream(file("out.png")) << "mine";
  EXPECT_THAT(draw_boxes(file("in.png"), {}, file("out.png"), false), HasSubstr("exists"));
  EXPECT_EQ(std::filesystem::file_size(file("out.png")), 4u);
  EXPECT_EQ(draw_boxes(file("in.png"), {}, file("out.png"), true), "");
  EXPECT_GT(std::filesystem::file_size(file("out.png")), 4u);
}

TEST_F(DrawBoxes, SaysWhatIsWrongWithThePicture) {
  EXPECT_THAT(draw_boxes(file("absent.png"), {}, file("out.png"), false), HasSubstr("absent.png"));
  EXPECT_FALSE(std::filesystem::exists(file("out.png")));
}

}  // namespace
}  // namespace glimpse::boxes
