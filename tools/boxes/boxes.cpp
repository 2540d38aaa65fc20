#include "tools/boxes/boxes.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <tuple>
#include <utility>

namespace glimpse::boxes {
namespace {

constexpr std::string_view kRefStart = "<|object_ref_start|>", kRefEnd = "<|object_ref_end|>";
constexpr std::string_view kBoxStart = "<|box_start|>", kBoxEnd = "<|box_end|>";

// Reads what is expected from the front of a text.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}
  bool take(char c) {
    while (!text_.empty() && text_.front() == ' ') text_.remove_prefix(1);
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  std::optional<double> number() {
    while (!text_.empty() && text_.front() == ' ') text_.remove_prefix(1);
    int value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc()) return std::nullopt;
    text_.remove_prefix(static_cast<size_t>(end - text_.data()));
    return std::clamp(value, 0, 1000);
  }
  bool done() const { return text_.find_first_not_of(' ') == std::string_view::npos; }

 private:
  std::string_view text_;
};

// "(x1,y1),(x2,y2)"
std::optional<Box> parse_corners(std::string_view text) {
  Scanner in(text);
  std::optional<double> v[4];
  for (int i = 0; i < 4; i += 2) {
    if ((i > 0 && !in.take(',')) || !in.take('(') || !(v[i] = in.number()) || !in.take(',') ||
        !(v[i + 1] = in.number()) || !in.take(')')) {
      return std::nullopt;
    }
  }
  if (!in.done()) return std::nullopt;
  Box box;
  std::tie(box.x1, box.x2) = std::minmax(*v[0], *v[2]);
  std::tie(box.y1, box.y2) = std::minmax(*v[1], *v[3]);
  return box;
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

// The number of the last picture that a text names; `before` when it names none.
int last_picture(std::string_view text, int before) {
  int last = before;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i > 0 && is_letter(text[i - 1]) && is_letter(text[i])) continue;  // inside a word
    last = picture_number(text.substr(i)).value_or(last);
  }
  return last;
}

// What lies between the marks, which `text` is then past; nullopt when the end is missing or another box begins first.
std::optional<std::string_view> between(std::string_view& text, std::string_view start, std::string_view end) {
  text.remove_prefix(start.size());
  const size_t stop = text.find(end);
  if (stop == std::string_view::npos || text.find(start) < stop) return std::nullopt;
  const std::string_view inside = text.substr(0, stop);
  text.remove_prefix(stop + end.size());
  return inside;
}

}  // namespace

std::vector<Box> parse_boxes(std::string_view text) {
  std::vector<Box> found;
  std::string label;
  int picture = 0;
  while (true) {
    const size_t ref = text.find(kRefStart), box = text.find(kBoxStart);
    if (ref == std::string_view::npos && box == std::string_view::npos) return found;
    picture = last_picture(text.substr(0, std::min(ref, box)), picture);
    text.remove_prefix(std::min(ref, box));
    if (ref < box) {
      const auto inside = between(text, kRefStart, kRefEnd);
      label = inside ? std::string(*inside) : "";
    } else if (const auto inside = between(text, kBoxStart, kBoxEnd)) {
      if (auto parsed = parse_corners(*inside)) {
        parsed->label = label;
        parsed->picture = picture;
        found.push_back(std::move(*parsed));
      }
    }
  }
}

Box to_pixels(const Box& box, int width, int height) {
  return {box.label,  box.x1 * width / 1000, box.y1 * height / 1000, box.x2 * width / 1000, box.y2 * height / 1000,
          box.picture};
}

std::vector<Box> boxes_of_picture(const std::vector<Box>& boxes, int number, int n_pictures) {
  std::vector<Box> kept;
  for (const Box& box : boxes) {
    const bool named = box.picture >= 1 && box.picture <= n_pictures;
    if (!named || box.picture == number || n_pictures == 1) kept.push_back(box);
  }
  return kept;
}

double overlap(const Box& a, const Box& b) {
  const double w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (w <= 0 || h <= 0) return 0;
  const auto area = [](const Box& r) { return (r.x2 - r.x1) * (r.y2 - r.y1); };
  return w * h / (area(a) + area(b) - w * h);
}

}  // namespace glimpse::boxes
