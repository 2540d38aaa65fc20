// PNG through libpng's simplified interface, which reports errors by value: no jumps to guard against.
#include <png.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "loaders/image/encode.h"

namespace glimpse {
namespace {

Result<std::vector<std::byte>> encode(std::span<const uint8_t> pixels, int width, int height, int n_channels) {
  constexpr int kMaxSide = 65535;
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide ||
      pixels.size() != static_cast<size_t>(width) * static_cast<size_t>(height) * static_cast<size_t>(n_channels)) {
    return make_error(ErrorCode::kInvalidArgument, "PNG: %d x %d pixels of %d bytes cannot be written", width, height,
                      pixels.size());
  }
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(width);
  png.height = static_cast<png_uint_32>(height);
  png.format = n_channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  std::vector<std::byte> bytes(PNG_IMAGE_PNG_SIZE_MAX(png));
  png_alloc_size_t n_bytes = bytes.size();
  if (png_image_write_to_memory(&png, bytes.data(), &n_bytes, 0, pixels.data(), width * n_channels, nullptr) == 0) {
    return make_error(ErrorCode::kOutOfMemory, "PNG: %s", png.message);
  }
  bytes.resize(std::min<size_t>(n_bytes, bytes.size()));
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> encode_png(const Image& image) {
  return encode(image.pixels, image.width, image.height, 3);
}

Result<std::vector<std::byte>> encode_grey_png(std::span<const uint8_t> pixels, int width, int height) {
  return encode(pixels, width, height, 1);
}

}  // namespace glimpse
