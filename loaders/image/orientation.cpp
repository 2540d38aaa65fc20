#include "loaders/image/orientation.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace glimpse {
namespace {

// Reads 16 and 32 bit numbers in the byte order of the TIFF header.
class TiffReader {
 public:
  TiffReader(std::span<const std::byte> bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}
  bool has(uint64_t offset, uint64_t n) const { return offset <= bytes_.size() && n <= bytes_.size() - offset; }
  // Precondition: has(offset, 2) or has(offset, 4).
  uint32_t u16(uint64_t offset) const { return number(offset, 2); }
  uint32_t u32(uint64_t offset) const { return number(offset, 4); }

 private:
  uint32_t number(uint64_t offset, uint64_t n) const {
    uint32_t value = 0;
    for (uint64_t i = 0; i < n; ++i) {
      value = value << 8 | std::to_integer<uint32_t>(bytes_[offset + (big_endian_ ? i : n - 1 - i)]);
    }
    return value;
  }
  std::span<const std::byte> bytes_;
  bool big_endian_;
};

bool starts_with(std::span<const std::byte> bytes, const char* prefix, size_t n) {
  return bytes.size() >= n && std::memcmp(bytes.data(), prefix, n) == 0;
}

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

int parse_exif_orientation(std::span<const std::byte> exif) {
  constexpr uint32_t kOrientationTag = 0x0112, kTypeShort = 3, kTypeLong = 4;
  if (starts_with(exif, "Exif\0\0", 6)) exif = exif.subspan(6);
  const bool big_endian = starts_with(exif, "MM\0*", 4);
  if (!big_endian && !starts_with(exif, "II*\0", 4)) return 1;
  const TiffReader tiff(exif, big_endian);
  if (!tiff.has(4, 4)) return 1;
  const uint64_t ifd = tiff.u32(4);
  if (!tiff.has(ifd, 2)) return 1;
  const uint32_t n_entries = tiff.u16(ifd);
  for (uint32_t i = 0; i < n_entries; ++i) {
    const uint64_t entry = ifd + 2 + uint64_t{i} * 12;  // tag u16, type u16, count u32, value u32
    if (!tiff.has(entry, 12)) return 1;
    if (tiff.u16(entry) != kOrientationTag) continue;
    const uint32_t type = tiff.u16(entry + 2);
    if (tiff.u32(entry + 4) != 1 || (type != kTypeShort && type != kTypeLong)) return 1;
    const uint32_t value = type == kTypeShort ? tiff.u16(entry + 8) : tiff.u32(entry + 8);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
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
