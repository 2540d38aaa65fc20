// EXIF orientation: finding the tag, and turning the picture upright. Private to loaders/image.
#pragma once

#include <cstddef>
#include <span>

#include "loaders/image/image.h"

namespace glimpse {

/// The orientation tag (0x0112) of IFD0. exif: a TIFF structure, with or without the "Exif\0\0" that JPEG puts before
/// it. 1 when the tag is missing or makes no sense: a damaged EXIF block does not damage the picture.
/// Source: Exif 2.32, 4.6.2 and 4.6.4 A; TIFF 6.0, section 2.
int parse_exif_orientation(std::span<const std::byte> exif);

/// Turns a stored picture upright, as Pillow's ImageOps.exif_transpose. orientation: 1..8; anything else is 1.
Image apply_orientation(Image image, int orientation);

}  // namespace glimpse
