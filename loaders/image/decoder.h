// What the decoders share: their common signature, the size check, alpha over white. Private to loaders/image.
//
// Rules for every decoder: the size in the header is checked with check_size() before anything is allocated for
// pixels; where the format bounds how many pixels its bytes can hold, that is checked too; a file that ends early is
// kTruncated, even if all that is missing is its last byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "engine/base/result.h"
#include "loaders/image/image.h"

namespace glimpse {

/// A picture as stored, and what its EXIF block says about how to hold it.
struct DecodedImage {
  Image image;
  int orientation = 1;  // 1..8; 1: upright, also when the file does not say
};

/// bytes: the whole file, its format already recognised. Errors: kTruncated, kCorrupt, kUnsupported, kTooLarge.
Result<DecodedImage> decode_jpeg(std::span<const std::byte> bytes, const ImageLimits& limits);
Result<DecodedImage> decode_png(std::span<const std::byte> bytes, const ImageLimits& limits);
#ifdef GLIMPSE_HAS_WEBP
Result<DecodedImage> decode_webp(std::span<const std::byte> bytes, const ImageLimits& limits);
#endif
Result<DecodedImage> decode_bmp(std::span<const std::byte> bytes, const ImageLimits& limits);
Result<DecodedImage> decode_ppm(std::span<const std::byte> bytes, const ImageLimits& limits);

enum class ImageFormat { kJpeg, kPng, kWebp, kBmp, kPpm };

/// Tells formats apart by their first bytes. Errors: kUnsupported names a format that glimpse does not read,
/// kTruncated when the bytes end inside a signature.
Result<ImageFormat> sniff_format(std::span<const std::byte> bytes);

/// Errors: kCorrupt when a side is not positive, kTooLarge when a limit is exceeded. format: for the message.
Status check_size(const char* format, int64_t width, int64_t height, const ImageLimits& limits);

/// An Image with its pixels allocated (zero). Precondition: check_size() accepted the size.
Image allocate_image(int64_t width, int64_t height);

/// value over white: (value * alpha + 255 * (255 - alpha)) / 255, rounded to nearest. The rounding of Pillow's
/// paste() with a mask, (t + (t >> 8)) >> 8 with t = x + 128, which is exact for every 0 <= x <= 255^2.
inline uint8_t over_white(unsigned value, unsigned alpha) {
  const unsigned t = value * alpha + 255u * (255u - alpha) + 128u;
  return static_cast<uint8_t>((t + (t >> 8)) >> 8);
}
/// rgba: n_pixels * 4 bytes, not premultiplied. rgb: n_pixels * 3 bytes.
void composite_over_white(const uint8_t* rgba, int64_t n_pixels, uint8_t* rgb);

/// Little-endian loads from bytes that were checked to be there.
inline uint32_t load_u8(const std::byte* p) {
  return std::to_integer<uint32_t>(*p);
}
inline uint32_t load_le16(const std::byte* p) {
  return load_u8(p) | load_u8(p + 1) << 8;
}
inline uint32_t load_le32(const std::byte* p) {
  return load_le16(p) | load_le16(p + 2) << 16;
}
inline uint32_t load_be32(const std::byte* p) {
  return load_u8(p) << 24 | load_u8(p + 1) << 16 | load_u8(p + 2) << 8 | load_u8(p + 3);
}

}  // namespace glimpse
