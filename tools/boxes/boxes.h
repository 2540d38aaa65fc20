// Boxes in answers: Qwen2-VL's grounding format, and boxes drawn on the picture they refer to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace glimpse::boxes {

/// A box in thousandths of the picture's width and height, x1 <= x2 and y1 <= y2, all in [0, 1000].
struct Box {
  std::string label;  // of the object reference before it; "" without one
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  int picture = 0;  // number of the picture that the text names last before the box, from 1; 0: it names none
};

/// The boxes of an answer with its control tokens shown:
/// `<|object_ref_start|>label<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>`, several boxes to a label.
/// Coordinates beyond 1000 are cut, corners in the wrong order exchanged; what is no box (cut short, three numbers,
/// ...) is left out. Pictures are named as "Picture 2", "image 2", "图片2". Source: Qwen2-VL report, section 2.2.1.
std::vector<Box> parse_boxes(std::string_view text);

/// The same box in pixels of a picture of this size.
Box to_pixels(const Box& box, int width, int height);

/// Intersection over union, in [0, 1]; 0 for boxes without area.
double overlap(const Box& a, const Box& b);

/// The boxes of picture `number` (from 1) of `n_pictures`: those that name it, and those that name none of them, which
/// may be anywhere: of one picture all are.
std::vector<Box> boxes_of_picture(const std::vector<Box>& boxes, int number, int n_pictures);

/// Draws the boxes, with their labels, on the picture in the file `picture` (upright, at its own size) and writes a PNG, whole or not at
/// all. Returns "" or what went wrong.
std::string draw_boxes(const std::string& picture, const std::vector<Box>& boxes, const std::string& png,
                       bool overwrite);

}  // namespace glimpse::boxes
