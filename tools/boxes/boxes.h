// What an answer points at, drawn on the picture, and as masks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace glimpse::boxes {

enum class Kind { kBox, kPoint, kPolygon };

/// A shape on a picture.
struct Mark {
  Kind kind = Kind::kBox;
  std::string label;           // "": none
  std::vector<double> pixels;  // x, y of its points: two corners of a box, the first left above; one; three or more
};

/// Draws the marks, with their labels, on the picture in the file `picture` (upright, at its own size) and writes a
/// PNG, whole or not at all. Returns "" or what went wrong.
std::string draw_marks(const std::string& picture, const std::vector<Mark>& marks, const std::string& png,
                       bool overwrite);

/// The pixels of a picture of this size whose centre lies inside the mark are 255, the others 0; of a polygon that cuts
/// itself by the even-odd rule. A point has no inside. (height, width).
std::vector<uint8_t> mask_of(const Mark& mark, int64_t width, int64_t height);
/// The same as a grey PNG, whole or not at all. Returns "" or what went wrong.
std::string write_mask(const Mark& mark, int64_t width, int64_t height, const std::string& png, bool overwrite);

}  // namespace glimpse::boxes
