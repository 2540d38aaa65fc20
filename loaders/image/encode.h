// Pictures to files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "loaders/image/image.h"

namespace glimpse {

/// The bytes of an 8-bit RGB PNG. Errors: kInvalidArgument when the sizes and the pixels of `image` disagree or a side
/// is not in 1..65535, kOutOfMemory.
Result<std::vector<std::byte>> encode_png(const Image& image);
/// The same for 8-bit grey pixels, (height, width).
Result<std::vector<std::byte>> encode_grey_png(std::span<const uint8_t> pixels, int width, int height);

}  // namespace glimpse
