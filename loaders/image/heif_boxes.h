// What a HEIF file (HEIC, AVIF) declares, found before its library decodes it: libheif allocates what the coded
// pictures say, and they need not say what the boxes around them do. Private to loaders/image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/result.h"
#include "loaders/image/image.h"

namespace glimpse {

/// The largest of all pictures, tiles and grids that a file declares, primary or not.
struct HeifSizes {
  uint64_t n_pixels = 0;      // of the largest
  uint64_t sample_bytes = 1;  // 2 when some picture has more than 8 bits a sample
  bool has_av1 = false;
  uint64_t half_planes = 3;  // samples of all three planes, in halves of the luma's: 3 for 4:2:0, 6 for 4:4:4
};

/// Reads ISO base media boxes (ISO/IEC 14496-12), image items (23008-12), HEVC sequence parameter sets (H.265, 7.3.2.2)
/// and AV1 sequence headers (AV1 specification, 5.5), wherever in the file a decoder would meet them.
/// format: "HEIC" or "AVIF", for messages. Errors: kCorrupt, kTruncated, kUnsupported (a coding that is not measured
/// here), kTooLarge.
Result<HeifSizes> scan_heif(const char* format, std::span<const std::byte> bytes, const ImageLimits& limits);

}  // namespace glimpse
