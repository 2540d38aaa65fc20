// PNG through libpng's simplified interface, which reports errors by value: no jumps to guard against.
#include <png.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "loaders/image/encode.h"

namespace glimpse {

Result<std::vector<std::byte>> encode_png(const Image& image) {
  constexpr int kMaxSide = 65535;
  if (image.width < 1 || image.height < 1 || image.width > kMaxSide || image.height > kMaxSide ||
      image.pixels.size() != static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3) {
    return make_error(ErrorCode::kInvalidArgument, "PNG: %d x %d pixels of %d bytes cannot be written", image.width,
                      image.height, image.pixels.size());
  }
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  const png_int_32 stride = image.width * 3;
  std::vector<std::byte> bytes(PNG_IMAGE_PNG_SIZE_MAX(png));
  png_alloc_size_t n_bytes = bytes.size();
  if (png_image_write_to_memory(&png, bytes.data(), &n_bytes, 0, image.pixels.data(), stride, nullptr) == 0) {
    return make_error(ErrorCode::kOutOfMemory, "PNG: %s", png.message);
  }
  bytes.resize(std::min<size_t>(n_bytes, bytes.size()));
  return bytes;
}

}  // namespace glimpse
