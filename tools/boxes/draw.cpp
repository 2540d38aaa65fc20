// Boxes drawn on a picture.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>

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

void draw(Image& image, const std::vector<Box>& boxes) {
  // Visible on a poster, not in the way on a stamp; a thin light edge keeps it visible on its own colour.
  const int line = std::max(2, std::min(image.width, image.height) / 150), edge = std::max(1, line / 3);
  for (size_t i = 0; i < boxes.size(); ++i) {
    const Box b = to_pixels(boxes[i], image.width, image.height);
    const int x1 = static_cast<int>(std::floor(b.x1)), y1 = static_cast<int>(std::floor(b.y1));
    const int x2 = static_cast<int>(std::ceil(b.x2)), y2 = static_cast<int>(std::ceil(b.y2));
    frame(image, x1 - edge, y1 - edge, x2 + edge, y2 + edge, line + 2 * edge, kEdge);
    frame(image, x1, y1, x2, y2, line, kColours[i % kColours.size()]);
  }
  // After all frames, so that none runs through a word. What has no letters here is told by its number.
  const int scale = std::max(1, line / 2);
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (boxes[i].label.empty()) continue;
    const Box b = to_pixels(boxes[i], image.width, image.height);
    const std::string text = can_be_drawn(boxes[i].label) ? boxes[i].label : std::to_string(i + 1);
    const int inside = static_cast<int>(std::floor(b.y1)) + line + edge;
    draw_label(image, text, static_cast<int>(std::floor(b.x1)) - edge, static_cast<int>(std::floor(b.y1)) - edge,
               inside, scale, kColours[i % kColours.size()]);
  }
}

Status draw_to_file(const std::string& picture, const std::vector<Box>& boxes, const std::string& png, bool overwrite) {
  GLIMPSE_ASSIGN(Image image, load_image(picture, {}));
  draw(image, boxes);
  GLIMPSE_ASSIGN(const std::vector<std::byte> bytes, encode_png(image));
  using Existing = AtomicFileWriter::Existing;
  GLIMPSE_ASSIGN(AtomicFileWriter file,
                 AtomicFileWriter::create(png, overwrite ? Existing::kReplace : Existing::kRefuse));
  GLIMPSE_TRY(file.write(bytes));
  return file.commit();
}

}  // namespace

std::string draw_boxes(const std::string& picture, const std::vector<Box>& boxes, const std::string& png,
                       bool overwrite) {
  const Status status = draw_to_file(picture, boxes, png, overwrite);
  return status.ok() ? "" : status.error().message;
}

}  // namespace glimpse::boxes
