// Reads bytes as an answer with boxes, points and polygons: whatever comes of it is in range and lies on the picture.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tokenizer/grounding.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace glimpse;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const ShapeUnit unit : {ShapeUnit::kThousandths, ShapeUnit::kResizedPixels}) {
    const Shapes read = read_shapes(text, unit);
    if ((read.n_unreadable > 0 || read.cut) == describe_problem(read).empty()) __builtin_trap();
    for (const Shape& shape : read.shapes) {
      const size_t n = shape.points.size();
      const bool fits = shape.kind == ShapeKind::kBox ? n == 2 : shape.kind == ShapeKind::kPoint ? n == 1 : n >= 3;
      if (!fits || shape.picture < 0 || picture_of(shape, 1) != 1 || picture_of(shape, 3) > 3) __builtin_trap();
      for (const ShapePoint& p : pixels_of(shape, {640, 480, 644, 476})) {
        if (!(p.x >= 0 && p.x <= 640 && p.y >= 0 && p.y <= 480)) __builtin_trap();
      }
      if (shape.kind != ShapeKind::kBox) continue;
      if (shape.points[0].x > shape.points[1].x || shape.points[0].y > shape.points[1].y) __builtin_trap();
      const double same = overlap(shape, shape);
      if (!(same == 0 || same == 1)) __builtin_trap();
    }
  }
  return 0;
}
