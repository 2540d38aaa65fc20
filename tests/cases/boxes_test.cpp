// Boxes in answers: the grounding format, whole and damaged; pixels; overlap; the picture with boxes on it.
#include "tools/boxes/boxes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loaders/image/encode.h"
#include "loaders/image/image.h"
#include "tools/boxes/font.h"

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

TEST(ParseBoxes, KnowWhichPictureIsNamedBeforeThem) {
  const auto pictures = [](const std::string& text) {
    std::vector<int> numbers;
    for (const Box& box : parse_boxes(text)) numbers.push_back(box.picture);
    return numbers;
  };
  const std::string box = "<|box_start|>(0,0),(9,9)<|box_end|>";
  EXPECT_EQ(pictures(box), std::vector<int>{0});
  EXPECT_EQ(pictures("Picture 2: " + box), std::vector<int>{2});
  EXPECT_EQ(pictures("In image 1 " + box + box + ", in IMAGE #2 " + box), (std::vector<int>{1, 1, 2}));
  EXPECT_EQ(pictures("\u56fe\u72473" + box + "\u56fe4" + box), (std::vector<int>{3, 4}));
  EXPECT_EQ(pictures("Pictures 2, pilgrimage 3, 4 images" + box), std::vector<int>{0});
  EXPECT_EQ(pictures("picture " + std::string(100000, ' ') + "2" + box), std::vector<int>{0});
  EXPECT_EQ(pictures("picture 99999999999999999999" + box), std::vector<int>{0});
  EXPECT_EQ(pictures("<|object_ref_start|>picture 2<|object_ref_end|>" + box), std::vector<int>{0}) << "a label";
}

TEST(BoxesOfPicture, ThoseThatNameItAndThoseThatNameNone) {
  const std::vector<Box> boxes = {
      {"a", 0, 0, 1, 1, 1}, {"b", 0, 0, 1, 1, 2}, {"c", 0, 0, 1, 1, 0}, {"d", 0, 0, 1, 1, 7}};
  const auto labels = [&](int number, int n) {
    std::string text;
    for (const Box& box : boxes_of_picture(boxes, number, n)) text += box.label;
    return text;
  };
  EXPECT_EQ(labels(1, 2), "acd");
  EXPECT_EQ(labels(2, 2), "bcd");
  EXPECT_EQ(labels(1, 1), "abcd");
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

TEST_F(DrawBoxes, LabelsStandAboveTheFrameOrInside) {
  const std::vector<int> edge = {255, 255, 255};
  // Letters of 5 x 7 and a margin of 1: above a frame whose outer edge is at y 29, inside one at the top.
  ASSERT_EQ(draw_boxes(file("in.png"), {{"I", 200, 500, 800, 900}}, file("out.png"), false), "");
  const auto above = load_image(file("out.png"), {});
  ASSERT_TRUE(above.ok());
  const auto ground = pixel(above.value(), 50, 30);  // the frame's colour
  EXPECT_EQ(pixel(above.value(), 19, 20), ground);
  EXPECT_EQ(pixel(above.value(), 19 + 1 + 2, 21 + 3), edge) << "the stem of the I";
  EXPECT_EQ(pixel(above.value(), 19 + 1, 21 + 3), ground) << "beside it";
  EXPECT_NE(pixel(above.value(), 28, 22), ground) << "the label is one letter wide";
  ASSERT_EQ(draw_boxes(file("in.png"), {{"I", 200, 50, 800, 900}}, file("out.png"), true), "");
  const auto inside = load_image(file("out.png"), {});
  ASSERT_TRUE(inside.ok());
  EXPECT_EQ(pixel(inside.value(), 19 + 1 + 2, 3 + 3 + 1 + 3), edge);
}

TEST_F(DrawBoxes, LongAndForeignLabelsStayWithinThePicture) {
  ASSERT_EQ(draw_boxes(file("in.png"),
                       {{std::string(500, 'W'), 0, 0, 1000, 1000},
                        {"\u7ea2\u8272", 900, 900, 1000, 1000},
                        {"x\x1b[31m", 0, 990, 10, 1000},
                        {"y", 1000, 1000, 1000, 1000}},
                       file("out.png"), false),
            "");
  EXPECT_TRUE(can_be_drawn("a red star, No. 3 (left)"));
  EXPECT_FALSE(can_be_drawn("\u7ea2"));
  EXPECT_FALSE(can_be_drawn("x\x1b"));
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
