// Boxes, points and polygons in answers, in the formats that the Qwen-VL families were trained on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace glimpse {

enum class ShapeKind { kBox, kPoint, kPolygon };
/// What the numbers of a shape count.
enum class ShapeUnit {
  kThousandths,   // of the picture's width and height: Qwen2-VL, Qwen3-VL
  kResizedPixels  // of the picture as the encoder saw it: Qwen2.5-VL
};

struct ShapePoint {
  double x = 0, y = 0;
  bool operator==(const ShapePoint&) const = default;
};

/// Something that an answer points at.
struct Shape {
  ShapeKind kind = ShapeKind::kBox;
  ShapeUnit unit = ShapeUnit::kThousandths;
  std::string label;               // as the answer has it; "" without one
  std::vector<ShapePoint> points;  // kBox: left upper and right lower corner; kPoint: one; kPolygon: three or more
  int picture = 0;                 // that the answer names for it, from 1; 0: it names none
};

struct Shapes {
  std::vector<Shape> shapes;  // in the order of the answer
  int64_t n_unreadable = 0;   // places that should hold a shape and hold none, or a damaged one
  bool cut = false;           // the answer ends inside a shape, or inside a list of them
};

/// The shapes of an answer with its control tokens shown. What can be read is read, whatever stands around it:
///   <|object_ref_start|>label<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>: several boxes to a label, one
///     corner alone is a point, <|quad_start|>(x1,y1),...<|quad_end|> a polygon. Always thousandths. Source: Qwen2-VL
///     report, section 2.2.1.
///   JSON objects with "bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y] or "polygon": [[x, y], ...] (and their
///     plurals, lists of them, and names without "_2d"), "label" and perhaps "picture", alone, in lists, fenced or in
///     other objects. Source: the cookbooks of Qwen2.5-VL and Qwen3-VL.
///   <points x1="x" y1="y" ... alt="label">: points. Source: the cookbook of Qwen2.5-VL.
/// json_unit: of the two latter. Corners in the wrong order are exchanged, thousandths cut to [0, 1000], pixels to
/// [0, 2^24]. Pictures are named in the text before: "Picture 2", "image #2", "图片2". Linear in the text's length.
Shapes read_shapes(std::string_view answer, ShapeUnit json_unit);

/// "", or what could not be read, for people.
std::string describe_problem(const Shapes& shapes);

/// Sizes of one of the pictures that were asked about, in pixels.
struct ShapePicture {
  int64_t width = 0, height = 0;                  // as given, upright
  int64_t resized_width = 0, resized_height = 0;  // what the encoder saw
};
/// A shape's points in pixels of this picture as it was given, cut to it.
std::vector<ShapePoint> pixels_of(const Shape& shape, const ShapePicture& picture);
/// The number of the picture that a shape is on, from 1: of one picture all are; 0: there are several and the answer
/// does not say, or names none of them.
int picture_of(const Shape& shape, size_t n_pictures);

/// Intersection over union of two boxes in the same unit, in [0, 1]; 0 for boxes without area.
double overlap(const Shape& a, const Shape& b);

}  // namespace glimpse
