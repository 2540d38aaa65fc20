#include "loaders/image/orient.h"

#include <algorithm>
#include <cstdint>

namespace glimpse {
namespace {

// Copies pixel (x, y) of `from` to pixel origin + x * step_x + y * step_y of `to`, in tiles, so that both the read
// and the write side of a transposition stay in cache.
void permute(const Image& from, int64_t origin, int64_t step_x, int64_t step_y, Image& to) {
  constexpr int64_t kTile = 64;
  for (int64_t y0 = 0; y0 < from.height; y0 += kTile) {
    const int64_t y1 = std::min<int64_t>(from.height, y0 + kTile);
    for (int64_t x0 = 0; x0 < from.width; x0 += kTile) {
      const int64_t x1 = std::min<int64_t>(from.width, x0 + kTile);
      for (int64_t y = y0; y < y1; ++y) {
        const uint8_t* in = from.pixels.data() + (y * from.width + x0) * 3;
        for (int64_t x = x0; x < x1; ++x, in += 3) {
          uint8_t* out = to.pixels.data() + (origin + x * step_x + y * step_y) * 3;
          out[0] = in[0];
          out[1] = in[1];
          out[2] = in[2];
        }
      }
    }
  }
}

}  // namespace

StoredAxes stored_axes(int orientation) {
  return {orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8,
          orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7};
}

Image apply_orientation(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const int64_t w = image.width, h = image.height;
  Image turned;
  turned.width = orientation >= 5 ? image.height : image.width;
  turned.height = orientation >= 5 ? image.width : image.height;
  turned.pixels.resize(image.pixels.size());
  // Where the stored row 0 and column 0 belong (Exif 2.32, 4.6.4 A, Orientation).
  switch (orientation) {
    case 2:
      permute(image, w - 1, -1, w, turned);
      break;  // mirrored left to right
    case 3:
      permute(image, w * h - 1, -1, -w, turned);
      break;  // upside down
    case 4:
      permute(image, (h - 1) * w, 1, -w, turned);
      break;  // mirrored top to bottom
    case 5:
      permute(image, 0, h, 1, turned);
      break;  // rows are columns
    case 6:
      permute(image, h - 1, h, -1, turned);
      break;  // to be turned 90 degrees clockwise
    case 7:
      permute(image, w * h - 1, -h, -1, turned);
      break;  // rows are columns, from the far corner
    case 8:
      permute(image, (w - 1) * h, -h, 1, turned);
      break;  // to be turned 90 degrees anticlockwise
    default:
      break;
  }
  return turned;
}

}  // namespace glimpse
