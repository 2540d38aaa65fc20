// Boxes, points and polygons drawn on pictures, and their masks.
#include "tools/boxes/boxes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "loaders/image/encode.h"
#include "loaders/image/image.h"
#include "tests/base/scratch_dir.h"
#include "tools/boxes/font.h"

namespace glimpse::boxes {
namespace {

using testing::HasSubstr;

Mark box(const std::string& label, double x1, double y1, double x2, double y2) {
  return {Kind::kBox, label, {x1, y1, x2, y2}};
}

class DrawBoxes : public FolderTest {
 protected:
  void SetUp() override {
    Image grey{100, 60, std::vector<uint8_t>(100 * 60 * 3, 128)};
    const auto bytes = encode_png(grey);
    ASSERT_TRUE(bytes.ok());
    scratch_.write("in.png", {reinterpret_cast<const char*>(bytes.value().data()), bytes.value().size()});
  }
  std::string file(const std::string& name) const { return scratch_.file(name); }
  static std::vector<int> pixel(const Image& image, int x, int y) {
    const auto at = image.pixels.begin() + (y * image.width + x) * 3;
    return {at[0], at[1], at[2]};
  }
};

TEST_F(DrawBoxes, FrameLiesOnTheBoxAndLeavesItsInsideAlone) {
  ASSERT_EQ(draw_marks(file("in.png"), {box("", 20, 15, 80, 45)}, file("out.png"), false), "");
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
  ASSERT_EQ(draw_marks(file("in.png"), {box("", 0, 0, 100, 60), box("", 50, 30, 50, 30), box("", 100, 60, 100, 60)},
                       file("out.png"), false),
            "");
  const auto image = load_image(file("out.png"), {});
  ASSERT_TRUE(image.ok());
  EXPECT_NE(pixel(image.value(), 0, 0), pixel(image.value(), 30, 30));
}

TEST_F(DrawBoxes, BoxesHaveDifferentColours) {
  ASSERT_EQ(draw_marks(file("in.png"), {box("", 0, 0, 40, 60), box("", 60, 0, 100, 60)}, file("out.png"), false), "");
  const auto image = load_image(file("out.png"), {});
  ASSERT_TRUE(image.ok());
  EXPECT_NE(pixel(image.value(), 0, 30), pixel(image.value(), 60, 30));
}

TEST_F(DrawBoxes, LabelsStandAboveTheFrameOrInside) {
  const std::vector<int> edge = {255, 255, 255};
  // Letters of 5 x 7 and a margin of 1: above a frame whose outer edge is at y 29, inside one at the top.
  ASSERT_EQ(draw_marks(file("in.png"), {box("I", 20, 30, 80, 54)}, file("out.png"), false), "");
  const auto above = load_image(file("out.png"), {});
  ASSERT_TRUE(above.ok());
  const auto ground = pixel(above.value(), 50, 30);  // the frame's colour
  EXPECT_EQ(pixel(above.value(), 19, 20), ground);
  EXPECT_EQ(pixel(above.value(), 19 + 1 + 2, 21 + 3), edge) << "the stem of the I";
  EXPECT_EQ(pixel(above.value(), 19 + 1, 21 + 3), ground) << "beside it";
  EXPECT_NE(pixel(above.value(), 28, 22), ground) << "the label is one letter wide";
  ASSERT_EQ(draw_marks(file("in.png"), {box("I", 20, 3, 80, 54)}, file("out.png"), true), "");
  const auto inside = load_image(file("out.png"), {});
  ASSERT_TRUE(inside.ok());
  EXPECT_EQ(pixel(inside.value(), 19 + 1 + 2, 3 + 3 + 1 + 3), edge);
}

TEST_F(DrawBoxes, LongAndForeignLabelsStayWithinThePicture) {
  ASSERT_EQ(draw_marks(file("in.png"),
                       {box(std::string(500, 'W'), 0, 0, 100, 60), box("\u7ea2\u8272", 90, 54, 100, 60),
                        box("x\x1b[31m", 0, 59.4, 1, 60), box("y", 100, 60, 100, 60)},
                       file("out.png"), false),
            "");
  EXPECT_TRUE(can_be_drawn("a red star, No. 3 (left)"));
  EXPECT_FALSE(can_be_drawn("\u7ea2"));
  EXPECT_FALSE(can_be_drawn("x\x1b"));
}

TEST_F(DrawBoxes, PointsAreDiscsAndPolygonsAreLines) {
  const std::vector<Mark> marks = {{Kind::kPoint, "", {20, 30}}, {Kind::kPolygon, "", {50, 10, 90, 10, 70, 50}}};
  ASSERT_EQ(draw_marks(file("in.png"), marks, file("out.png"), false), "");
  const auto image = load_image(file("out.png"), {});
  ASSERT_TRUE(image.ok());
  const std::vector<int> grey = {128, 128, 128};
  for (const auto& [x, y] : {std::pair{20, 30}, {17, 30}, {20, 33}, {70, 9}, {50, 10}, {89, 10}, {70, 48}, {60, 30}}) {
    EXPECT_NE(pixel(image.value(), x, y), grey) << x << ' ' << y;
  }
  for (const auto& [x, y] : {std::pair{27, 30}, {13, 30}, {70, 25}, {45, 30}, {55, 35}, {90, 30}}) {
    EXPECT_EQ(pixel(image.value(), x, y), grey) << x << ' ' << y;
  }
}

TEST_F(DrawBoxes, MarksFarOutsideAreDrawnWithinThePicture) {
  const std::vector<Mark> marks = {{Kind::kPoint, "a", {100, 60}},
                                   {Kind::kPolygon, "b", {0, 0, 100, 0, 100, 60, 0, 60}}};
  EXPECT_EQ(draw_marks(file("in.png"), marks, file("out.png"), false), "");
}

// Which pixels of a small picture are set, row by row.
std::string shown(const Mark& mark, int64_t width, int64_t height) {
  const std::vector<uint8_t> mask = mask_of(mark, width, height);
  std::string text;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] != 0 && mask[i] != 255) return "a value between";
    text += mask[i] != 0 ? '#' : '.';
    if ((i + 1) % static_cast<size_t>(width) == 0) text += '\n';
  }
  return text;
}

TEST(MaskOf, HasThePixelsWhoseCentresAreInside) {
  EXPECT_EQ(shown(box("", 1, 0.6, 3.4, 2), 5, 3), ".....\n.##..\n.....\n");
  EXPECT_EQ(shown(box("", 0, 0, 5, 3), 5, 3), "#####\n#####\n#####\n");
  EXPECT_EQ(shown(box("", 2, 1, 2, 1), 5, 3), ".....\n.....\n.....\n");
  EXPECT_EQ(shown({Kind::kPolygon, "", {0, 0, 5, 0, 0, 5}}, 5, 5), "####.\n###..\n##...\n#....\n.....\n");
  EXPECT_EQ(shown({Kind::kPolygon, "", {0, 5, 0, 0, 5, 0}}, 5, 5), "####.\n###..\n##...\n#....\n.....\n");
  EXPECT_EQ(shown({Kind::kPoint, "", {2, 1}}, 5, 3), ".....\n.....\n.....\n");
}

TEST(MaskOf, APolygonThatCutsItselfHasHoles) {
  // Twice around a square, the second time smaller: the middle is out.
  EXPECT_EQ(shown({Kind::kPolygon, "", {0, 0, 5, 0, 5, 5, 0, 5, 0, 0, 1, 1, 4, 1, 4, 4, 1, 4, 1, 1}}, 5, 5),
            "#####\n#...#\n#...#\n#...#\n#####\n");
}

TEST(MaskOf, PointsOutsideAreCut) {
  EXPECT_EQ(shown({Kind::kPolygon, "", {-10, -10, 2, -10, 2, 1, -10, 1}}, 4, 2), "##..\n....\n");
}

TEST_F(DrawBoxes, MasksAreGreyPicturesOfTheSameSize) {
  ASSERT_EQ(write_mask(box("", 10, 10, 20, 20), 100, 60, file("mask.png"), false), "");
  const auto image = load_image(file("mask.png"), {});
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image.value().width, 100);
  EXPECT_EQ(image.value().height, 60);
  EXPECT_EQ(pixel(image.value(), 15, 15), (std::vector<int>{255, 255, 255}));
  EXPECT_EQ(pixel(image.value(), 20, 20), (std::vector<int>{0, 0, 0}));
  EXPECT_THAT(write_mask(box("", 0, 0, 1, 1), 100, 60, file("mask.png"), false), HasSubstr("exists"));
}

TEST_F(DrawBoxes, ExistingFileIsKeptUnlessAskedFor) {
  std::ofstream(file("out.png")) << "mine";
  EXPECT_THAT(draw_marks(file("in.png"), {}, file("out.png"), false), HasSubstr("exists"));
  EXPECT_EQ(std::filesystem::file_size(file("out.png")), 4u);
  EXPECT_EQ(draw_marks(file("in.png"), {}, file("out.png"), true), "");
  EXPECT_GT(std::filesystem::file_size(file("out.png")), 4u);
}

TEST_F(DrawBoxes, SaysWhatIsWrongWithThePicture) {
  EXPECT_THAT(draw_marks(file("absent.png"), {}, file("out.png"), false), HasSubstr("absent.png"));
  EXPECT_FALSE(std::filesystem::exists(file("out.png")));
}

}  // namespace
}  // namespace glimpse::boxes
