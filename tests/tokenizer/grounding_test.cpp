// Boxes, points and polygons in answers: the formats of the three families, whole, damaged and cut off.
#include "tokenizer/grounding.h"

#include <gtest/gtest.h>

#include <chrono>

#include "engine/base/format.h"

namespace glimpse {
namespace {

std::string box(const std::string& corners) {
  return "<|box_start|>" + corners + "<|box_end|>";
}
std::string ref(const std::string& label) {
  return "<|object_ref_start|>" + label + "<|object_ref_end|>";
}
Shapes read(const std::string& text) {
  return read_shapes(text, ShapeUnit::kThousandths);
}

// "box 1,2 3,4 'label'" for each shape, with "@2" where a picture is named, and what is wrong at the end.
std::string told(const Shapes& shapes) {
  const char* const kinds[] = {"box", "point", "polygon"};
  std::string text;
  for (const Shape& shape : shapes.shapes) {
    text += kinds[static_cast<int>(shape.kind)];
    for (const ShapePoint& p : shape.points) {
      char numbers[64];
      snprintf(numbers, sizeof numbers, " %g,%g", p.x, p.y);
      text += numbers;
    }
    text += " '" + shape.label + "'";
    if (shape.picture > 0) text += format("@%d", shape.picture);
    text += "\n";
  }
  if (shapes.n_unreadable > 0) text += "unreadable: " + std::to_string(shapes.n_unreadable) + "\n";
  if (shapes.cut) text += "cut\n";
  return text;
}
std::string told(const std::string& answer) {
  return told(read(answer));
}

TEST(Grounding, ReadsLabelAndCornersBetweenControlTokens) {
  EXPECT_EQ(told("Here: " + ref("red star") + box("(120,30),(450,990)") + "<|im_end|>"),
            "box 120,30 450,990 'red star'\n");
  EXPECT_EQ(told(ref("a") + box("(1,2),(3,4)") + box("(5,6),(7,8)") + " and " + ref("b") + box("(9,10),(11,12)")),
            "box 1,2 3,4 'a'\nbox 5,6 7,8 'a'\nbox 9,10 11,12 'b'\n");
  EXPECT_EQ(told(box("(1, 2), (3, 4)")), "box 1,2 3,4 ''\n");
  EXPECT_EQ(told(box("(900,-5),(100,4000)")), "box 100,0 900,1000 ''\n") << "ordered and cut to the picture";
}

TEST(Grounding, OneCornerIsAPointAndAQuadAPolygon) {
  EXPECT_EQ(told(ref("button") + box("(12,34)")), "point 12,34 'button'\n");
  EXPECT_EQ(told(ref("text") + "<|quad_start|>(1,2),(3,4),(5,6),(7,8)<|quad_end|>"),
            "polygon 1,2 3,4 5,6 7,8 'text'\n");
}

TEST(Grounding, WhatIsNoBoxIsLeftOutAndTold) {
  for (const char* corners : {"", "(1,2),(3)", "(1,2),(3,4", "(1,2),(3,4),(5,6)", "(a,2),(3,4)", "1,2,3,4",
                              "(1,2)(3,4)", "(1e999,2),(3,4)", "(inf,2),(3,4)", "(nan,2),(3,4)", "(1,2),"}) {
    EXPECT_EQ(told(box(corners)), "unreadable: 1\n") << corners;
  }
  EXPECT_EQ(told("<|quad_start|>(1,2),(3,4)<|quad_end|>"), "unreadable: 1\n");
  for (const char* none : {"", "no box at all (1,2),(3,4)"}) EXPECT_EQ(told(none), "");
  for (const char* cut : {"<|box_start|>(1,2),(3,4)", "<|object_ref_start|>red"}) EXPECT_EQ(told(cut), "cut\n");
}

TEST(Grounding, DamageDoesNotHideTheNextBox) {
  EXPECT_EQ(told("<|box_start|>(1,2),<|box_start|>(3,4),(5,6)<|box_end|>"), "box 3,4 5,6 ''\nunreadable: 1\n");
  EXPECT_EQ(told("<|object_ref_start|>cut " + ref("whole") + box("(1,1),(2,2)")), "box 1,1 2,2 'whole'\n");
}

TEST(Grounding, ReadsFencedJsonOfBoxesAndPoints) {
  EXPECT_EQ(told("Here they are:\n```json\n[\n\t{\"bbox_2d\": [10, 20.5, 300, 400], \"label\": \"a cat\"},\n\t"
                 "{\"label\": \"eye\", \"point_2d\": [50, 60]}\n]\n```"),
            "box 10,20.5 300,400 'a cat'\npoint 50,60 'eye'\n");
  EXPECT_EQ(told("{'bbox_2d': [1, 2, 3, 4], 'label': 'one'}"), "box 1,2 3,4 'one'\n") << "as Python writes it";
  EXPECT_EQ(told(R"({"bbox_2d": [1, 2, 3, 4]} {"bbox": [5, 6, 7, 8], "name": "n", "label": "l", "text": "t"})"),
            "box 1,2 3,4 ''\nbox 5,6 7,8 'l'\n");
  EXPECT_EQ(told(R"({"label": "\u00e9\ud83d\ude00\n\"x\"\\", "point": [1, 2]})"),
            "point 1,2 '\u00e9\U0001F600\n\"x\"\\'\n");
  EXPECT_EQ(told(R"({"label": "\ud83d and \udc00", "point": [1, 2]})"), "point 1,2 '\uFFFD and \uFFFD'\n");
}

TEST(Grounding, ReadsPolygonsAndListsOfShapes) {
  EXPECT_EQ(told(R"({"polygon": [[1,2],[3,4],[5,6]], "label": "p"})"), "polygon 1,2 3,4 5,6 'p'\n");
  EXPECT_EQ(told(R"({"polygon": [1,2,3,4,5,6], "label": "p"})"), "polygon 1,2 3,4 5,6 'p'\n");
  EXPECT_EQ(told(R"({"segmentation": [[1,2,3,4,5,6],[7,8,9,10,11,12]]})"),
            "polygon 1,2 3,4 5,6 ''\npolygon 7,8 9,10 11,12 ''\n");
  EXPECT_EQ(told(R"({"polygons": [[[1,2],[3,4],[5,6]],[[7,8],[9,10],[11,12]]]})"),
            "polygon 1,2 3,4 5,6 ''\npolygon 7,8 9,10 11,12 ''\n");
  EXPECT_EQ(told(R"({"bbox_2d": [[1,2,3,4],[5,6,7,8]], "label": "b"})"), "box 1,2 3,4 'b'\nbox 5,6 7,8 'b'\n");
  EXPECT_EQ(told(R"({"bbox_2d": [[1,2],[3,4]], "label": "b"})"), "box 1,2 3,4 'b'\n");
  EXPECT_EQ(told(R"({"bbox_2d": [1,2,3,4,5,6,7,8], "label": "quad"})"), "polygon 1,2 3,4 5,6 7,8 'quad'\n");
  EXPECT_EQ(told(R"({"points": [[1,2],[3,4]], "label": "b"})"), "point 1,2 'b'\npoint 3,4 'b'\n");
  EXPECT_EQ(told(R"({"objects": [{"bbox_2d": [1,2,3,4], "label": "in"}], "label": "out"})"), "box 1,2 3,4 'in'\n");
  EXPECT_EQ(told(R"({"bbox_2d": null, "boxes": []})"), "") << "nothing there";
}

TEST(Grounding, ReadsThePointsElement) {
  EXPECT_EQ(told("<points x1=\"1\" y1=\"2\" x2=\"3.5\" y2=\"4\" alt=\"dots\">dots</points>"),
            "point 1,2 'dots'\npoint 3.5,4 'dots'\n");
  EXPECT_EQ(told("<points alt=\"d\" x=\"1\" y=\"2\">d</points> <points x1=\"a\" y1=\"2\">"),
            "point 1,2 'd'\nunreadable: 1\n");
  EXPECT_EQ(told("<points x1=\"1\" y1=\""), "unreadable: 1\ncut\n");
}

TEST(Grounding, CutJsonGivesWhatIsWhole) {
  const std::string whole = R"([{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6, 7, 8], "label": "b"}])";
  const std::string both = "box 1,2 3,4 'a'\nbox 5,6 7,8 'b'\n";
  EXPECT_EQ(told(whole), both);
  for (size_t n = 0; n < whole.size(); ++n) {
    const Shapes read = glimpse::read_shapes(whole.substr(0, n), ShapeUnit::kThousandths);
    const size_t first = whole.find(']'), second = whole.rfind(']', whole.size() - 2);
    const size_t want = n > second ? 2 : n > first ? 1 : 0;
    EXPECT_EQ(read.shapes.size(), want) << whole.substr(0, n);
    EXPECT_EQ(read.n_unreadable, 0) << whole.substr(0, n);
    EXPECT_EQ(read.cut, n > whole.find(':')) << whole.substr(0, n);
  }
}

TEST(Grounding, DamagedJsonGivesWhatCanBeRead) {
  EXPECT_EQ(told(R"([{"bbox_2d": [1, 2, oops, 4], "label": "a"}, {"bbox_2d": [5, 6, 7, 8], "label": "b"}])"),
            "box 5,6 7,8 'b'\nunreadable: 1\n");
  EXPECT_EQ(told(R"([{"bbox_2d": [1, 2, 3], "label": "a"}, {"bbox_2d": "5 6 7 8", "label": "b"}])"), "unreadable: 2\n");
  EXPECT_EQ(told(R"({"bbox_2d": [1, 2, 3, 4], label: "a"} {"point_2d": [1, 2]})"),
            "box 1,2 3,4 ''\npoint 1,2 ''\nunreadable: 1\n");
  EXPECT_EQ(told(R"({"bbox_2d": [1, [2], 3, 4]})"), "unreadable: 1\n");
  EXPECT_EQ(told(R"({"bbox_2d": [1e400, 2, 3, 4]})"), "unreadable: 1\n");
  EXPECT_EQ(told(R"({"point_2d": [1, 2, 3, 4]})"), "unreadable: 1\n");
  EXPECT_EQ(told("int main() { return 0; } and f(x) = {x | x > 0} and [{] and a[0]"), "") << "no JSON of ours";
}

TEST(Grounding, NumbersAreBounded) {
  const Shapes pixels = read_shapes(R"({"bbox_2d": [-5, 1e300, 3, 4]})", ShapeUnit::kResizedPixels);
  EXPECT_EQ(told(pixels), "box 0,4 3,1.67772e+07 ''\n");
  EXPECT_EQ(pixels.shapes[0].unit, ShapeUnit::kResizedPixels);
  EXPECT_EQ(read_shapes(box("(1,2),(3,4)"), ShapeUnit::kResizedPixels).shapes.at(0).unit, ShapeUnit::kThousandths);
}

TEST(Grounding, KnowsWhichPictureIsNamedBefore) {
  const auto pictures = [](const std::string& text) {
    std::vector<int> numbers;
    for (const Shape& shape : read(text).shapes) numbers.push_back(shape.picture);
    return numbers;
  };
  const std::string b = box("(0,0),(9,9)"), json = R"({"bbox_2d": [0, 0, 9, 9]})";
  for (const std::string& one : {b, json}) {
    EXPECT_EQ(pictures(one), std::vector<int>{0});
    EXPECT_EQ(pictures("Picture 2: " + one), std::vector<int>{2});
    EXPECT_EQ(pictures("In image 1 " + one + one + ", in IMAGE #2 " + one), (std::vector<int>{1, 1, 2}));
    EXPECT_EQ(pictures("\u56fe\u72473" + one + "\u56fe4" + one), (std::vector<int>{3, 4}));
    EXPECT_EQ(pictures("Pictures 2, pilgrimage 3, 4 images" + one), std::vector<int>{0});
    EXPECT_EQ(pictures("picture " + std::string(100000, ' ') + "2" + one), std::vector<int>{0});
    EXPECT_EQ(pictures("picture 99999999999999999999" + one), std::vector<int>{0});
    EXPECT_EQ(pictures(ref("picture 2") + one), std::vector<int>{0}) << "a label";
  }
  EXPECT_EQ(pictures(R"([{"bbox_2d": [0,0,9,9], "picture": 2}, {"bbox_2d": [0,0,9,9], "label": "image 3"}])"),
            (std::vector<int>{2, 0}));
}

TEST(Grounding, PicturesThatAreNotThereAreNone) {
  Shape shape;
  shape.picture = 2;
  EXPECT_EQ(picture_of(shape, 1), 1) << "of one picture all are";
  EXPECT_EQ(picture_of(shape, 2), 2);
  shape.picture = 3;
  EXPECT_EQ(picture_of(shape, 2), 0);
  EXPECT_EQ(picture_of(shape, 0), 0);
}

TEST(Grounding, PixelsAreThoseOfThePictureAsItWasGiven) {
  Shape shape;
  shape.points = {{100, 250}, {500, 1000}};
  EXPECT_EQ(pixels_of(shape, {640, 480, 644, 476}), (std::vector<ShapePoint>{{64, 120}, {320, 480}}));
  shape.unit = ShapeUnit::kResizedPixels;
  EXPECT_EQ(pixels_of(shape, {1000, 500, 500, 1000}), (std::vector<ShapePoint>{{200, 125}, {1000, 500}}));
  EXPECT_EQ(pixels_of(shape, {100, 50, 50, 100}), (std::vector<ShapePoint>{{100, 50}, {100, 50}})) << "cut to it";
}

TEST(Grounding, OverlapIsIntersectionOverUnion) {
  const auto make = [](double x1, double y1, double x2, double y2) {
    Shape shape;
    shape.points = {{x1, y1}, {x2, y2}};
    return shape;
  };
  const Shape a = make(0, 0, 10, 10);
  EXPECT_EQ(overlap(a, a), 1);
  EXPECT_DOUBLE_EQ(overlap(a, make(5, 0, 15, 10)), 1.0 / 3);
  EXPECT_EQ(overlap(a, make(10, 0, 20, 10)), 0) << "they touch";
  EXPECT_EQ(overlap(make(5, 5, 5, 5), make(5, 5, 5, 5)), 0) << "no area";
}

TEST(Grounding, ProblemsAreToldInWords) {
  EXPECT_EQ(describe_problem({}), "");
  EXPECT_EQ(describe_problem(read(box("") + box("(1,2"))), "2 shapes of the answer could not be read whole");
  EXPECT_EQ(describe_problem(read(box("") + "<|box_start|>(1")),
            "1 shape of the answer could not be read whole, and the answer ends in the middle of its shapes");
}

// What a model may say without end must not take time without end.
TEST(Grounding, TimeIsLinearInTheText) {
  const std::string starts[] = {"<|box_start|>", "<|object_ref_start|>", "<points ", "{",      "[{",
                                R"({"bbox":)",   R"({"bbox": [)",        "{\"",      "image ", "[["};
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& start : starts) {
    std::string text;
    while (text.size() < 400000) text += start;
    EXPECT_TRUE(read(text).shapes.empty());
  }
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 20);
}

}  // namespace
}  // namespace glimpse
