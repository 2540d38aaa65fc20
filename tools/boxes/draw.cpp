// Marks drawn on a picture, and as masks.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "engine/base/file.h"
#include "loaders/image/encode.h"
#include "loaders/image/image.h"
#include "tools/boxes/boxes.h"
#include "tools/boxes/font.h"

namespace glimpse::boxes {
namespace {

using Colour = std::array<uint8_t, 3>;
// Far apart for most eyes (after Okabe and Ito, 2008).
constexpr std::array<Colour, 6> kColours = {
    {{230, 60, 0}, {0, 114, 220}, {0, 158, 100}, {204, 80, 167}, {230, 159, 0}, {86, 180, 233}}};
constexpr Colour kEdge = {255, 255, 255};

// Pixels [x1, x2) x [y1, y2), those inside the picture.
void fill(Image& image, int x1, int y1, int x2, int y2, const Colour& colour) {
  for (int y = std::max(y1, 0); y < std::min(y2, image.height); ++y) {
    for (int x = std::max(x1, 0); x < std::min(x2, image.width); ++x) {
      std::copy(colour.begin(), colour.end(), image.pixels.begin() + (static_cast<ptrdiff_t>(y) * image.width + x) * 3);
    }
  }
}

// A frame of `width` pixels, from the outer edge [x1, x2) x [y1, y2) inwards.
void frame(Image& image, int x1, int y1, int x2, int y2, int width, const Colour& colour) {
  fill(image, x1, y1, x2, std::min(y1 + width, y2), colour);
  fill(image, x1, std::max(y2 - width, y1), x2, y2, colour);
  fill(image, x1, y1, std::min(x1 + width, x2), y2, colour);
  fill(image, std::max(x2 - width, x1), y1, x2, y2, colour);
}

// The label on a ground of the box's colour, above the frame where there is room, else inside it; moved and cut to stay
// within the picture. x, y: the frame's outer corner. scale: pixels per dot of a letter.
void draw_label(Image& image, const std::string& text, int x, int y, int inside_y, int scale, const Colour& colour) {
  const int step = (kGlyphWidth + 1) * scale, height = (kGlyphHeight + 2) * scale;
  const auto n_fit = static_cast<size_t>(std::max(0, (image.width - scale) / step));
  const std::string_view shown = std::string_view(text).substr(0, n_fit);
  const int width = static_cast<int>(shown.size()) * step + scale;
  x = std::clamp(x, 0, std::max(0, image.width - width));
  y = y >= height ? y - height : std::min(inside_y, std::max(0, image.height - height));
  fill(image, x, y, x + width, y + height, colour);
  for (size_t i = 0; i < shown.size(); ++i) {
    for (int row = 0; row < kGlyphHeight; ++row) {
      for (int column = 0; column < kGlyphWidth; ++column) {
        if ((glyph(shown[i])[static_cast<size_t>(row)] >> (kGlyphWidth - 1 - column) & 1) == 0) continue;
        const int left = x + scale + static_cast<int>(i) * step + column * scale, top = y + (row + 1) * scale;
        fill(image, left, top, left + scale, top + scale, kEdge);
      }
    }
  }
}

struct Bounds {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};
Bounds bounds_of(const Mark& mark) {
  Bounds b{mark.pixels[0], mark.pixels[1], mark.pixels[0], mark.pixels[1]};
  for (size_t i = 2; i + 1 < mark.pixels.size(); i += 2) {
    b = {std::min(b.x1, mark.pixels[i]), std::min(b.y1, mark.pixels[i + 1]), std::max(b.x2, mark.pixels[i]),
         std::max(b.y2, mark.pixels[i + 1])};
  }
  return b;
}

void disc(Image& image, double x, double y, double radius, const Colour& colour) {
  for (int row = static_cast<int>(std::floor(y - radius)); row <= static_cast<int>(std::ceil(y + radius)); ++row) {
    const double dy = row + 0.5 - y, half = std::sqrt(std::max(0.0, radius * radius - dy * dy));
    if (dy * dy > radius * radius) continue;
    fill(image, static_cast<int>(std::lround(x - half)), row, static_cast<int>(std::lround(x + half)), row + 1, colour);
  }
}

// The closed line through a polygon's points. Discs half a radius apart are as good as a line.
void outline(Image& image, const std::vector<double>& points, double radius, const Colour& colour) {
  for (size_t i = 0; i + 1 < points.size(); i += 2) {
    const size_t next = (i + 2) % points.size();
    const double dx = points[next] - points[i], dy = points[next + 1] - points[i + 1];
    const int n = static_cast<int>(std::ceil(std::hypot(dx, dy) / std::max(0.5, radius / 2)));
    for (int k = 0; k <= n; ++k) {
      const double share = n == 0 ? 0 : static_cast<double>(k) / n;
      disc(image, points[i] + share * dx, points[i + 1] + share * dy, radius, colour);
    }
  }
}

void draw_mark(Image& image, const Mark& mark, int line, int edge, const Colour& colour) {
  if (mark.kind == Kind::kPoint) {
    disc(image, mark.pixels[0], mark.pixels[1], 2 * line + edge, kEdge);
    disc(image, mark.pixels[0], mark.pixels[1], 2 * line, colour);
  } else if (mark.kind == Kind::kPolygon) {
    outline(image, mark.pixels, 0.5 * line + edge, kEdge);
    outline(image, mark.pixels, 0.5 * line, colour);
  } else {
    const int x1 = static_cast<int>(std::floor(mark.pixels[0])), y1 = static_cast<int>(std::floor(mark.pixels[1]));
    const int x2 = static_cast<int>(std::ceil(mark.pixels[2])), y2 = static_cast<int>(std::ceil(mark.pixels[3]));
    frame(image, x1 - edge, y1 - edge, x2 + edge, y2 + edge, line + 2 * edge, kEdge);
    frame(image, x1, y1, x2, y2, line, colour);
  }
}

void draw(Image& image, const std::vector<Mark>& marks) {
  // Visible on a poster, not in the way on a stamp; a thin light edge keeps it visible on its own colour.
  const int line = std::max(2, std::min(image.width, image.height) / 150), edge = std::max(1, line / 3);
  for (size_t i = 0; i < marks.size(); ++i) draw_mark(image, marks[i], line, edge, kColours[i % kColours.size()]);
  // After all marks, so that none runs through a word. What has no letters here is told by its number.
  const int scale = std::max(1, line / 2);
  for (size_t i = 0; i < marks.size(); ++i) {
    if (marks[i].label.empty()) continue;
    Bounds b = bounds_of(marks[i]);
    if (marks[i].kind == Kind::kPoint) b = {b.x1 - 2 * line, b.y1 - 2 * line, b.x2 + 2 * line, b.y2 + 2 * line};
    const std::string text = can_be_drawn(marks[i].label) ? marks[i].label : std::to_string(i + 1);
    const int inside = static_cast<int>(std::floor(b.y1)) + line + edge;
    draw_label(image, text, static_cast<int>(std::floor(b.x1)) - edge, static_cast<int>(std::floor(b.y1)) - edge,
               inside, scale, kColours[i % kColours.size()]);
  }
}

Status write_whole(const std::vector<std::byte>& bytes, const std::string& path, bool overwrite) {
  using Existing = AtomicFileWriter::Existing;
  GLIMPSE_ASSIGN(AtomicFileWriter file,
                 AtomicFileWriter::create(path, overwrite ? Existing::kReplace : Existing::kRefuse));
  GLIMPSE_TRY(file.write(bytes));
  return file.commit();
}

Status draw_to_file(const std::string& picture, const std::vector<Mark>& marks, const std::string& png,
                    bool overwrite) {
  GLIMPSE_ASSIGN(Image image, load_image(picture, {}));
  draw(image, marks);
  GLIMPSE_ASSIGN(const std::vector<std::byte> bytes, encode_png(image));
  return write_whole(bytes, png, overwrite);
}

Status mask_to_file(const Mark& mark, int64_t width, int64_t height, const std::string& png, bool overwrite) {
  GLIMPSE_ASSIGN(const std::vector<std::byte> bytes,
                 encode_grey_png(mask_of(mark, width, height), static_cast<int>(width), static_cast<int>(height)));
  return write_whole(bytes, png, overwrite);
}

// Pixels [from, to) have their centres between the two.
std::pair<int64_t, int64_t> covered(double from, double to, int64_t n) {
  const auto first_at = [n](double x) { return std::clamp(static_cast<int64_t>(std::ceil(x - 0.5)), int64_t{0}, n); };
  return {first_at(from), first_at(to)};
}

}  // namespace

std::string draw_marks(const std::string& picture, const std::vector<Mark>& marks, const std::string& png,
                       bool overwrite) {
  const Status status = draw_to_file(picture, marks, png, overwrite);
  return status.ok() ? "" : status.error().message;
}

std::vector<uint8_t> mask_of(const Mark& mark, int64_t width, int64_t height) {
  std::vector<uint8_t> mask(static_cast<size_t>(width * height));
  if (mark.kind == Kind::kPoint) return mask;
  const Bounds b = bounds_of(mark);
  const auto [top, bottom] = covered(b.y1, b.y2, height);
  std::vector<double> crossings;
  for (int64_t row = top; row < bottom; ++row) {
    crossings = {b.x1, b.x2};
    if (mark.kind == Kind::kPolygon) {
      crossings.clear();
      const double y = static_cast<double>(row) + 0.5;
      for (size_t i = 0; i + 1 < mark.pixels.size(); i += 2) {
        const size_t next = (i + 2) % mark.pixels.size();
        const double y1 = mark.pixels[i + 1], y2 = mark.pixels[next + 1];
        if ((y1 <= y) == (y2 <= y)) continue;
        crossings.push_back(mark.pixels[i] + (y - y1) / (y2 - y1) * (mark.pixels[next] - mark.pixels[i]));
      }
      std::sort(crossings.begin(), crossings.end());
    }
    for (size_t i = 0; i + 1 < crossings.size(); i += 2) {
      const auto [from, to] = covered(crossings[i], crossings[i + 1], width);
      if (from < to) std::fill(mask.begin() + row * width + from, mask.begin() + row * width + to, uint8_t{255});
    }
  }
  return mask;
}

std::string write_mask(const Mark& mark, int64_t width, int64_t height, const std::string& png, bool overwrite) {
  const Status status = mask_to_file(mark, width, height, png, overwrite);
  return status.ok() ? "" : status.error().message;
}

}  // namespace glimpse::boxes
