// What is taken from a PNG before libpng is let loose on it: the header, the palette and the colour key, the
// orientation, and how samples become RGB. Private to loaders/image.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/result.h"
#include "loaders/image/image.h"

namespace glimpse {

struct PngChunks {
  uint32_t width = 0, height = 0;
  int bit_depth = 0;
  int color_type = 0;  // PNG_COLOR_TYPE_*
  bool interlaced = false;
  uint64_t n_idat_bytes = 0;      // compressed pixels
  size_t pixels_end = 0;          // offset in the file after the last chunk of the pixels
  bool pixels_are_whole = false;  // that chunk is there to its last byte
  std::span<const std::byte> palette, transparency, exif, raw_profile, xmp;  // bodies of PLTE, tRNS, ...
  bool raw_profile_is_deflated = false, xmp_is_deflated = false;

  /// Of a row as stored, and as libpng gives it: with 16 bits stripped to 8.
  size_t stored_row_bytes() const;
  size_t row_bytes() const;
  /// Samples of 16 bits lose their low byte inside libpng, except where a colour key of 16 bits must be compared.
  bool strips_16() const { return bit_depth == 16 && !has_key(); }
  /// tRNS names the one colour that is transparent.
  bool has_key() const;
  int orientation() const;
  /// stored: a row as libpng gives it. rgb: width * 3 bytes, alpha composited over white.
  void expand_row(const uint8_t* stored, uint8_t* rgb) const;

  /// Of samples of up to 8 bits as libpng gives them, grey or indices: their colour over white.
  using Colours = std::array<std::array<uint8_t, 3>, 256>;
  Colours colours = {};
};

/// bytes: begins with the signature. Errors: kTruncated, kCorrupt, kTooLarge.
Result<PngChunks> scan_png_chunks(std::span<const std::byte> bytes, const ImageLimits& limits);

}  // namespace glimpse
