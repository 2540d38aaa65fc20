// Decoded pictures and the limits that every decoder obeys before it allocates.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

/// 8-bit RGB, row-major, (height, width, 3), no padding.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;
};

/// Checked against the header, before anything is allocated for the pixels.
struct ImageLimits {
  uint64_t max_bytes = uint64_t{256} << 20;  // of the encoded file
  int max_width = 65535;
  int max_height = 65535;
  uint64_t max_pixels = uint64_t{256} << 20;  // 268 million: 805 MB of RGB
};

struct DecodeOptions {
  ImageLimits limits;
  bool apply_exif_orientation = true;
};

/// Decodes JPEG, PNG, WebP (where the build has libwebp; of an animation the first frame), BMP or PPM/PGM, told apart
/// by content. Alpha is composited over white, grey and palette become RGB, 16-bit PNG becomes 8-bit by its high byte,
/// PPM of another maximum than 255 is scaled to it, CMYK JPEG is taken as Adobe stores it (inverted), EXIF orientation
/// is applied; colour profiles and gamma are ignored. A file that is cut short is an error, never half a picture.
/// Same pixels as Pillow 13 (with libjpeg-turbo, libpng and libwebp).
/// Errors: kUnsupported names the format it saw (GIF, TIFF, HEIC, AVIF, text, ...), kTruncated, kCorrupt, kTooLarge.
Result<Image> decode_image(std::span<const std::byte> bytes, const DecodeOptions& options);

/// Reads and decodes a file. Errors also: kNotFound, kIo. Messages start with the path.
Result<Image> load_image(const std::string& path, const DecodeOptions& options);

}  // namespace glimpse
