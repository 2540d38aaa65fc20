// The façade: which format, which decoder, upright.
#include <utility>
#include <vector>

#include "engine/base/file.h"
#include "loaders/image/decoder.h"
#include "loaders/image/image.h"
#include "loaders/image/orientation.h"

namespace glimpse {
namespace {

using ull = unsigned long long;

Result<DecodedImage> decode_stored(std::span<const std::byte> bytes, const ImageLimits& limits) {
  GLIMPSE_ASSIGN(const ImageFormat format, sniff_format(bytes));
  switch (format) {
    case ImageFormat::kJpeg:
      return decode_jpeg(bytes, limits);
    case ImageFormat::kPng:
      return decode_png(bytes, limits);
    case ImageFormat::kBmp:
      return decode_bmp(bytes, limits);
    case ImageFormat::kPpm:
      return decode_ppm(bytes, limits);
    case ImageFormat::kWebp:
      break;
  }
#ifdef GLIMPSE_HAS_WEBP
  return decode_webp(bytes, limits);
#else
  return make_error(ErrorCode::kUnsupported,
                    "this is a WebP picture, and this build of glimpse was made without "
                    "libwebp; convert it to PNG or JPEG");
#endif
}

}  // namespace

Status check_size(const char* format, int64_t width, int64_t height, const ImageLimits& limits) {
  if (width <= 0 || height <= 0) {
    return make_error(ErrorCode::kCorrupt, "%s: the header says %lld x %lld pixels", format,
                      static_cast<long long>(width), static_cast<long long>(height));
  }
  if (width > limits.max_width || height > limits.max_height) {
    return make_error(ErrorCode::kTooLarge, "%s: %lld x %lld pixels; the limit is %d x %d", format,
                      static_cast<long long>(width), static_cast<long long>(height), limits.max_width,
                      limits.max_height);
  }
  // Both sides are at most INT_MAX, so the product fits.
  const uint64_t n_pixels = static_cast<uint64_t>(width) * static_cast<uint64_t>(height);
  if (n_pixels > limits.max_pixels) {
    return make_error(ErrorCode::kTooLarge, "%s: %lld x %lld are %llu pixels; the limit is %llu", format,
                      static_cast<long long>(width), static_cast<long long>(height), static_cast<ull>(n_pixels),
                      static_cast<ull>(limits.max_pixels));
  }
  return {};
}

Image allocate_image(int64_t width, int64_t height) {
  Image image;
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  image.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  return image;
}

void composite_over_white(const uint8_t* rgba, int64_t n_pixels, uint8_t* rgb) {
  for (int64_t i = 0; i < n_pixels; ++i) {
    for (int64_t c = 0; c < 3; ++c) rgb[i * 3 + c] = over_white(rgba[i * 4 + c], rgba[i * 4 + 3]);
  }
}

Result<Image> decode_image(std::span<const std::byte> bytes, const DecodeOptions& options) {
  if (bytes.size() > options.limits.max_bytes) {
    return make_error(ErrorCode::kTooLarge, "the picture's file has %llu bytes; the limit is %llu",
                      static_cast<ull>(bytes.size()), static_cast<ull>(options.limits.max_bytes));
  }
  GLIMPSE_ASSIGN(DecodedImage decoded, decode_stored(bytes, options.limits));
  if (!options.apply_exif_orientation) return std::move(decoded.image);
  return apply_orientation(std::move(decoded.image), decoded.orientation);
}

Result<Image> load_image(const std::string& path, const DecodeOptions& options) {
  auto bytes = read_file(path, options.limits.max_bytes);  // its messages name the path
  if (!bytes.ok()) return std::move(bytes).error();
  auto image = decode_image(bytes.value(), options);
  if (!image.ok()) return with_context(std::move(image).error(), path);
  return image;
}

}  // namespace glimpse
