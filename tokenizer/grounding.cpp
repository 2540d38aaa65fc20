#include "tokenizer/grounding.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "engine/base/format.h"
#include "tokenizer/grounding_json.h"
#include "tokenizer/grounding_scanner.h"

namespace glimpse {
namespace {

constexpr std::string_view kRefStart = "<|object_ref_start|>", kRefEnd = "<|object_ref_end|>";
constexpr std::string_view kBoxStart = "<|box_start|>", kBoxEnd = "<|box_end|>";
constexpr std::string_view kQuadStart = "<|quad_start|>", kQuadEnd = "<|quad_end|>";
constexpr std::string_view kPoints = "<points";

// "(x1,y1),(x2,y2),...": nullopt when it is anything else.
std::optional<std::vector<ShapePoint>> parse_corners(std::string_view text) {
  ShapeScanner in(text);
  std::vector<ShapePoint> points;
  do {
    if (!in.take('(')) return std::nullopt;
    const auto x = in.number();
    if (!x || !in.take(',')) return std::nullopt;
    const auto y = in.number();
    if (!y || !in.take(')')) return std::nullopt;
    points.push_back({*x, *y});
  } while (in.take(','));
  if (!in.done()) return std::nullopt;
  return points;
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// "Picture 2", "image #2", "图片2" at the front of a text: the number; nullopt: none is named there.
std::optional<int> picture_number(std::string_view text) {
  constexpr std::string_view kNames[] = {"picture", "image", "photo", "figure", "图片", "图像", "图"};
  for (const std::string_view name : kNames) {
    const bool fits =
        text.size() > name.size() && std::equal(name.begin(), name.end(), text.begin(), [](char a, char b) {
          return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b + 32) : b);
        });
    if (!fits) continue;
    std::string_view rest = text.substr(name.size());
    for (int i = 0; i < 2 && !rest.empty() && (rest[0] == ' ' || rest[0] == '#'); ++i) rest.remove_prefix(1);
    int number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error == std::errc() && number >= 0) return number;
  }
  return std::nullopt;
}

// Walks an answer once, from front to back.
class AnswerReader {
 public:
  AnswerReader(std::string_view text, ShapeUnit json_unit) : text_(text), unit_(json_unit), json_(text) {}

  Shapes read() {
    while (at_ < text_.size()) step();
    shapes_.cut = shapes_.cut || json_.cut();
    shapes_.n_unreadable += json_.n_unreadable();
    return std::move(shapes_);
  }

 private:
  void step() {
    const std::string_view rest = text_.substr(at_);
    if (rest.starts_with(kRefStart)) {
      label_ = between(kRefStart, kRefEnd).value_or("");
    } else if (rest.starts_with(kBoxStart)) {
      add_marked(kBoxStart, kBoxEnd);
    } else if (rest.starts_with(kQuadStart)) {
      add_marked(kQuadStart, kQuadEnd);
    } else if (rest.starts_with(kPoints)) {
      add_points_element();
    } else if (json_.begins_at(at_)) {
      std::vector<Shape> found;
      at_ = json_.read(at_, found);
      for (Shape& shape : found) {
        shape.unit = unit_;
        add(std::move(shape));
      }
    } else {
      if (at_ == 0 || !is_letter(text_[at_ - 1]) || !is_letter(text_[at_])) {  // not inside a word
        picture_ = picture_number(rest).value_or(picture_);
      }
      ++at_;
    }
  }

  // What lies between the marks, which the reader is then past; nullopt when another mark comes first, or none.
  std::optional<std::string_view> between(std::string_view start, std::string_view end) {
    at_ += start.size();
    const std::string_view rest = text_.substr(at_);
    const size_t stop = rest.find("<|");
    if (stop == std::string_view::npos) {
      at_ = text_.size();
      shapes_.cut = true;
      return std::nullopt;
    }
    at_ += stop;
    if (!text_.substr(at_).starts_with(end)) return std::nullopt;
    at_ += end.size();
    return rest.substr(0, stop);
  }

  void add_marked(std::string_view start, std::string_view end) {
    const auto inside = between(start, end);
    if (!inside && shapes_.cut) return;
    auto points = inside ? parse_corners(*inside) : std::nullopt;
    const bool quad = start == kQuadStart;
    if (!points || (quad ? points->size() < 3 : points->size() > 2)) {
      ++shapes_.n_unreadable;
      return;
    }
    Shape shape;
    shape.kind = quad ? ShapeKind::kPolygon : points->size() == 1 ? ShapeKind::kPoint : ShapeKind::kBox;
    shape.label = label_;
    shape.points = std::move(*points);
    add(std::move(shape));
  }

  // <points x1="1" y1="2" x2="3" y2="4" alt="label">
  void add_points_element() {
    at_ += kPoints.size();
    const std::string_view rest = text_.substr(at_);
    const size_t stop = rest.find_first_of("<>");
    if (stop == std::string_view::npos || rest[stop] != '>') {
      if (stop == std::string_view::npos) shapes_.cut = true;
      ++shapes_.n_unreadable;
      at_ += stop == std::string_view::npos ? rest.size() : stop;
      return;
    }
    at_ += stop + 1;
    std::string label;
    std::optional<double> x;
    for (std::string_view inside = rest.substr(0, stop); !inside.empty();) {
      const size_t quote = inside.find('"'),
                   end = quote == std::string_view::npos ? quote : inside.find('"', quote + 1);
      if (end == std::string_view::npos) break;
      std::string_view name = inside.substr(0, quote);
      name.remove_prefix(std::min(name.size(), name.find_first_not_of(' ')));
      const std::string_view value = inside.substr(quote + 1, end - quote - 1);
      inside.remove_prefix(end + 1);
      if (name.starts_with("alt")) {
        label = value;
      } else if (name.starts_with('x')) {
        x = ShapeScanner(value).number();
      } else if (name.starts_with('y')) {
        const auto y = ShapeScanner(value).number();
        if (x && y) {
          add_point({*x, *y});
        } else {
          ++shapes_.n_unreadable;
        }
        x.reset();
      }
    }
    for (size_t i = first_point_; i < shapes_.shapes.size(); ++i) shapes_.shapes[i].label = label;
    first_point_ = SIZE_MAX;
  }
  void add_point(ShapePoint point) {
    first_point_ = std::min(first_point_, shapes_.shapes.size());
    Shape shape;
    shape.kind = ShapeKind::kPoint;
    shape.unit = unit_;
    shape.points = {point};
    add(std::move(shape));
  }

  void add(Shape shape) {
    const double most = shape.unit == ShapeUnit::kThousandths ? 1000 : 1 << 24;
    for (ShapePoint& p : shape.points) p = {std::clamp(p.x, 0.0, most), std::clamp(p.y, 0.0, most)};
    if (shape.kind == ShapeKind::kBox) {
      ShapePoint &a = shape.points[0], &b = shape.points[1];
      if (a.x > b.x) std::swap(a.x, b.x);
      if (a.y > b.y) std::swap(a.y, b.y);
    }
    if (shape.picture == 0) shape.picture = picture_;
    shapes_.shapes.push_back(std::move(shape));
  }

  const std::string_view text_;
  const ShapeUnit unit_;
  JsonShapeReader json_;
  size_t at_ = 0;
  Shapes shapes_;
  std::string label_;              // of the object reference before
  int picture_ = 0;                // that was named last
  size_t first_point_ = SIZE_MAX;  // of the element that is being read
};

}  // namespace

Shapes read_shapes(std::string_view answer, ShapeUnit json_unit) {
  return AnswerReader(answer, json_unit).read();
}

std::string describe_problem(const Shapes& shapes) {
  std::string problem;
  if (shapes.n_unreadable > 0) {
    problem = format("%d %s of the answer could not be read whole", shapes.n_unreadable,
                     shapes.n_unreadable == 1 ? "shape" : "shapes");
  }
  if (shapes.cut) {
    if (!problem.empty()) problem += ", and ";
    problem += "the answer ends in the middle of its shapes";
  }
  return problem;
}

std::vector<ShapePoint> pixels_of(const Shape& shape, const ShapePicture& picture) {
  const auto width = static_cast<double>(picture.width), height = static_cast<double>(picture.height);
  const bool thousandths = shape.unit == ShapeUnit::kThousandths;
  const double of_x = thousandths ? 1000 : static_cast<double>(std::max<int64_t>(1, picture.resized_width));
  const double of_y = thousandths ? 1000 : static_cast<double>(std::max<int64_t>(1, picture.resized_height));
  std::vector<ShapePoint> pixels;
  for (const ShapePoint& p : shape.points) {
    pixels.push_back({std::min(p.x * width / of_x, width), std::min(p.y * height / of_y, height)});
  }
  return pixels;
}

int picture_of(const Shape& shape, size_t n_pictures) {
  if (n_pictures == 1) return 1;
  return shape.picture >= 1 && static_cast<size_t>(shape.picture) <= n_pictures ? shape.picture : 0;
}

double overlap(const Shape& a, const Shape& b) {
  if (a.kind != ShapeKind::kBox || b.kind != ShapeKind::kBox) return 0;
  const auto area = [](const ShapePoint& from, const ShapePoint& to) { return (to.x - from.x) * (to.y - from.y); };
  const ShapePoint from = {std::max(a.points[0].x, b.points[0].x), std::max(a.points[0].y, b.points[0].y)};
  const ShapePoint to = {std::min(a.points[1].x, b.points[1].x), std::min(a.points[1].y, b.points[1].y)};
  if (to.x <= from.x || to.y <= from.y) return 0;
  const double both = area(from, to);
  return both / (area(a.points[0], a.points[1]) + area(b.points[0], b.points[1]) - both);
}

}  // namespace glimpse
