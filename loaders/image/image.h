// Decoded pictures, readers that give them row by row, and the limits that every decoder obeys before it allocates.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"

namespace glimpse {

/// 8-bit RGB, row-major, (height, width, 3), no padding.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;
};

/// Checked against the header, before anything is allocated for the pixels.
struct ImageLimits {
  uint64_t max_bytes = uint64_t{256} << 20;  // of the encoded file
  int max_width = 65535;
  int max_height = 65535;
  /// Of the picture as stored. The default is where Pillow refuses: twice its MAX_IMAGE_PIXELS.
  uint64_t max_pixels = 2 * 89478485;
  /// What a reader may hold while it reads: the file, when it read that itself, and what its format needs beside the
  /// rows that it gives (all coefficients of a progressive JPEG, all pixels of a WebP or an interlaced PNG).
  uint64_t max_memory = uint64_t{256} << 20;
  /// Of a JPEG. A progressive picture has about 10 scans, the most careful optimisers write fewer than 30. Each may
  /// cost a visit to every block of the picture for a few bytes of file: without a cap, a small file could keep us for
  /// hours.
  int max_scans = 100;
};

struct DecodeOptions {
  ImageLimits limits;
  bool apply_exif_orientation = true;
  /// Called while a picture is read, with the stage "read image" and the fraction done; returning false cancels.
  ProgressSink progress;
};

/// What is known of a picture from its header.
struct ImageInfo {
  int64_t width = 0, height = 0;  // pixels as stored
  int orientation = 1;            // 1..8, as EXIF numbers them; 1: the stored rows are upright
  uint64_t memory = 0;            // bytes that the reader will hold at most

  bool transposed() const { return orientation >= 5; }
  int64_t upright_width() const { return transposed() ? height : width; }
  int64_t upright_height() const { return transposed() ? width : height; }
};

/// A picture that gives its rows from the top, as they are stored. Nothing of size is allocated before the first row.
class ImageReader {
 public:
  virtual ~ImageReader() = default;
  const ImageInfo& info() const { return info_; }
  /// The next n_rows rows: (n_rows, width, 3). The last ones come only if the file is whole. Precondition: so many are
  /// left. Errors: those of decode_image(), and kCancelled; after one no more rows can be had.
  Status read_rows(int64_t n_rows, uint8_t* rgb);

 protected:
  virtual Status decode_rows(int64_t n_rows, uint8_t* rgb) = 0;
  /// Errors: kCancelled.
  Status report(double fraction) const;

  ImageInfo info_;
  ProgressSink progress_;
  double rows_begin_ = 0;  // the fraction of the work that is done before the first row is there

 private:
  int64_t n_read_ = 0;
};

/// Reads the header. `bytes` must live as long as the reader. Errors: those of decode_image().
Result<std::unique_ptr<ImageReader>> open_image(std::span<const std::byte> bytes, const DecodeOptions& options);

/// The same for a file, a pipe or a socket, which is read to its end first. Errors also: kNotFound, kIo. Messages start
/// with the path.
Result<std::unique_ptr<ImageReader>> open_image_file(const std::string& path, const DecodeOptions& options);

/// Pixels of somebody else, rows `stride` bytes apart, as a reader. Precondition: stride >= 3 * width.
std::unique_ptr<ImageReader> read_pixels_of(const uint8_t* rgb, int64_t width, int64_t height, size_t stride);

/// All rows of a reader, upright.
Result<Image> read_image(ImageReader& reader);

/// Decodes JPEG, PNG, BMP, PPM/PGM and, where the build has their libraries, WebP, GIF, TIFF, HEIC and AVIF, told apart
/// by content; of an animation the first frame. Alpha is composited over white, grey and palette become RGB, PPM of
/// another maximum than 255 is scaled to it, CMYK JPEG is taken as Adobe stores it (inverted), the orientation of EXIF
/// or XMP is applied; colour profiles and gamma are ignored. A file that is cut short is an error, never half a
/// picture. Same pixels as Pillow 13; the exceptions are in loaders/image/README.md, with what is done about each
/// irregularity. Errors: kUnsupported names the format it saw (TGA, JPEG XL, text, ...), kTruncated, kCorrupt,
/// kTooLarge (a limit), kOutOfMemory, kCancelled.
Result<Image> decode_image(std::span<const std::byte> bytes, const DecodeOptions& options);

/// Reads and decodes a file. Errors also: kNotFound, kIo. Messages start with the path.
Result<Image> load_image(const std::string& path, const DecodeOptions& options);

}  // namespace glimpse
