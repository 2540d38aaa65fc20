// Orientation: finding it in EXIF and XMP. Private to loaders/image.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace glimpse {

/// The orientation tag (0x0112) of IFD0, as Pillow reads it: of any numeric type and count, the first value counts.
/// exif: a TIFF structure, with up to two "Exif\0\0" before it (JPEG wants one, some writers put another). 1 when the
/// value makes no sense, nothing when there is no such tag: a damaged EXIF block does not damage the picture.
/// Source: Exif 2.32, 4.6.2 and 4.6.4 A; TIFF 6.0, section 2.
std::optional<int> exif_orientation(std::span<const std::byte> exif);

/// tiff:Orientation, as an attribute or an element, whichever comes first. xmp: the text of the packet (XMP, part 1).
std::optional<int> xmp_orientation(std::string_view xmp);

/// "Raw profile type exif" of ImageMagick and exiftool: three lines of head, then hexadecimal digits, to bytes.
/// text: at most a megabyte. Empty when it is something else.
std::vector<std::byte> decode_raw_profile(std::string_view text);

/// What a file says. EXIF counts before XMP.
struct OrientationTags {
  std::vector<std::byte> exif;
  std::vector<std::byte> xmp;
  static constexpr size_t kMost = size_t{1} << 20;  // bytes of either that are looked at
  int orientation() const;
};

}  // namespace glimpse
