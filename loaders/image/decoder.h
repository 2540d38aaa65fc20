// What the decoders share: their common signature, the checks of size and memory, alpha over white. Private to
// loaders/image.
//
// Rules for every decoder: opening reads the header and allocates nothing of size; the size is checked with
// check_size(), the bytes needed while decoding with check_memory(); where the format bounds how many pixels its bytes
// can hold, that is checked too; a file that ends before its last pixel is kTruncated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>

#include "engine/base/result.h"
#include "loaders/image/image.h"

namespace glimpse {

using ImageReaderResult = Result<std::unique_ptr<ImageReader>>;

/// A Reader of the bytes, opened.
template <class Reader, class... More>
ImageReaderResult opened(std::span<const std::byte> bytes, const DecodeOptions& options, const More&... more) {
  auto reader = std::make_unique<Reader>(options);
  GLIMPSE_TRY(reader->open(bytes, more...));
  return std::unique_ptr<ImageReader>(std::move(reader));
}

/// bytes: the whole file, its format already recognised. Errors: kTruncated, kCorrupt, kUnsupported, kTooLarge.
ImageReaderResult open_jpeg(std::span<const std::byte> bytes, const DecodeOptions& options);
ImageReaderResult open_png(std::span<const std::byte> bytes, const DecodeOptions& options);
#ifdef GLIMPSE_HAS_WEBP
ImageReaderResult open_webp(std::span<const std::byte> bytes, const DecodeOptions& options);
#endif
#ifdef GLIMPSE_HAS_GIF
ImageReaderResult open_gif(std::span<const std::byte> bytes, const DecodeOptions& options);
#endif
#ifdef GLIMPSE_HAS_TIFF
ImageReaderResult open_tiff(std::span<const std::byte> bytes, const DecodeOptions& options);
#endif
#ifdef GLIMPSE_HAS_HEIF
/// format: "HEIC" or "AVIF", for messages.
ImageReaderResult open_heif(const char* format, std::span<const std::byte> bytes, const DecodeOptions& options);
#endif
ImageReaderResult open_bmp(std::span<const std::byte> bytes, const DecodeOptions& options);
ImageReaderResult open_ppm(std::span<const std::byte> bytes, const DecodeOptions& options);

enum class ImageFormat { kJpeg, kPng, kWebp, kGif, kTiff, kHeic, kAvif, kBmp, kPpm };

/// Tells formats apart by their first bytes. Errors: kUnsupported names a format that glimpse does not read,
/// kTruncated when the bytes end inside a signature.
Result<ImageFormat> sniff_format(std::span<const std::byte> bytes);

/// Errors: kCorrupt when a side is not positive, kTooLarge when a limit is exceeded. format: for the message.
Status check_size(const char* format, int64_t width, int64_t height, const ImageLimits& limits);

/// Errors: kTooLarge when `needed` bytes are above limits.max_memory. what: "progressive JPEG", for the message.
Status check_memory(const char* what, uint64_t needed, const ImageLimits& limits);

/// Reports to DecodeOptions::progress from C code that calls us back, which no exception may pass.
class GuardedProgress {
 public:
  explicit GuardedProgress(const ProgressSink& sink) : sink_(sink) {}
  /// false: stop and return error().
  bool report(double fraction) noexcept;
  /// kCancelled. Throws what the sink threw.
  Error error() const;

 private:
  ProgressSink sink_;
  std::exception_ptr thrown_;
};

/// value over white: (value * alpha + 255 * (255 - alpha)) / 255, rounded to nearest. The rounding of Pillow's
/// paste() with a mask, (t + (t >> 8)) >> 8 with t = x + 128, which is exact for every 0 <= x <= 255^2.
inline uint8_t over_white(unsigned value, unsigned alpha) {
  const unsigned t = value * alpha + 255u * (255u - alpha) + 128u;
  return static_cast<uint8_t>((t + (t >> 8)) >> 8);
}
/// rgba: n_pixels * 4 bytes, not premultiplied. rgb: n_pixels * 3 bytes.
void composite_over_white(const uint8_t* rgba, int64_t n_pixels, uint8_t* rgb);

/// Loads from bytes that were checked to be there.
inline uint32_t load_u8(const std::byte* p) {
  return std::to_integer<uint32_t>(*p);
}
inline uint32_t load_le16(const std::byte* p) {
  return load_u8(p) | load_u8(p + 1) << 8;
}
inline uint32_t load_le32(const std::byte* p) {
  return load_le16(p) | load_le16(p + 2) << 16;
}
inline uint32_t load_be16(const std::byte* p) {
  return load_u8(p) << 8 | load_u8(p + 1);
}
inline uint32_t load_be32(const std::byte* p) {
  return load_be16(p) << 16 | load_be16(p + 2);
}

}  // namespace glimpse
