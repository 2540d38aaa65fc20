// The façade: which format, which decoder; whole pictures out of rows.
#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/orient.h"
#include "loaders/image/source.h"

namespace glimpse {
namespace {

#ifdef GLIMPSE_HAS_HEIF
ImageReaderResult open_heic(std::span<const std::byte> bytes, const DecodeOptions& options) {
  return open_heif("HEIC", bytes, options);
}
ImageReaderResult open_avif(std::span<const std::byte> bytes, const DecodeOptions& options) {
  return open_heif("AVIF", bytes, options);
}
#endif

using Opener = ImageReaderResult (*)(std::span<const std::byte>, const DecodeOptions&);
// How each format is opened; nullptr: this build lacks the library that reads it.
struct FormatReader {
  ImageFormat format;
  Opener open;
  const char* name = "";
  const char* library = "";
  const char* converter = "magick";
};
constexpr FormatReader kReaders[] = {
    {ImageFormat::kJpeg, open_jpeg}, {ImageFormat::kPng, open_png},
    {ImageFormat::kBmp, open_bmp},   {ImageFormat::kPpm, open_ppm},
#ifdef GLIMPSE_HAS_WEBP
    {ImageFormat::kWebp, open_webp},
#else
    {ImageFormat::kWebp, nullptr, "WebP", "libwebp"},
#endif
#ifdef GLIMPSE_HAS_GIF
    {ImageFormat::kGif, open_gif},
#else
    {ImageFormat::kGif, nullptr, "GIF", "giflib"},
#endif
#ifdef GLIMPSE_HAS_TIFF
    {ImageFormat::kTiff, open_tiff},
#else
    {ImageFormat::kTiff, nullptr, "TIFF", "libtiff"},
#endif
#ifdef GLIMPSE_HAS_HEIF
    {ImageFormat::kHeic, open_heic}, {ImageFormat::kAvif, open_avif},
#else
    {ImageFormat::kHeic, nullptr, "HEIC", "libheif", "heif-convert"},
    {ImageFormat::kAvif, nullptr, "AVIF", "libheif", "heif-convert"},
#endif
};

ImageReaderResult open_stored(std::span<const std::byte> bytes, const DecodeOptions& options) {
  GLIMPSE_ASSIGN(const ImageFormat format, sniff_format(bytes));
  for (const FormatReader& reader : kReaders) {
    if (reader.format != format) continue;
    if (reader.open != nullptr) return reader.open(bytes, options);
    return make_error(
        ErrorCode::kUnsupported,
        "this is a picture of format %s, and this build of glimpse was made without %s: convert it to JPEG, "
        "for example: %s FILE picture.jpg",
        reader.name, reader.library, reader.converter);
  }
  return make_error(ErrorCode::kInternal, "an unknown picture format");
}

// A file in memory and the reader of its bytes.
class ReaderOfFile final : public ImageReader {
 public:
  explicit ReaderOfFile(std::vector<std::byte> bytes, std::string path)
      : bytes_(std::move(bytes)), path_(std::move(path)) {}
  Status open(const DecodeOptions& options) {
    GLIMPSE_ASSIGN(reader_, open_image(bytes_, options));
    info_ = reader_->info();
    info_.memory += bytes_.capacity();
    return {};
  }
  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    Status status = reader_->read_rows(n_rows, rgb);
    if (!status.ok()) return with_context(status.error(), path_);
    return status;
  }

 private:
  const std::vector<std::byte> bytes_;
  const std::string path_;
  std::unique_ptr<ImageReader> reader_;
};

class ReaderOfPixels final : public ImageReader {
 public:
  ReaderOfPixels(const uint8_t* rgb, int64_t width, int64_t height, size_t stride) : next_(rgb), stride_(stride) {
    info_.width = width;
    info_.height = height;
  }
  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    const size_t row = 3 * static_cast<size_t>(info_.width);
    for (int64_t y = 0; y < n_rows; ++y, rgb += row, next_ += stride_) std::copy_n(next_, row, rgb);
    return {};
  }

 private:
  const uint8_t* next_;
  size_t stride_;
};

}  // namespace

Status check_size(const char* format, int64_t width, int64_t height, const ImageLimits& limits) {
  if (width <= 0 || height <= 0) {
    return make_error(ErrorCode::kCorrupt, "%s: the header says %d x %d pixels", format, width, height);
  }
  if (width > limits.max_width || height > limits.max_height) {
    return make_error(ErrorCode::kTooLarge, "%s: %d x %d pixels; the limit is %d x %d", format, width, height,
                      limits.max_width, limits.max_height);
  }
  // Both sides are at most INT_MAX, so the product fits.
  const uint64_t n_pixels = static_cast<uint64_t>(width) * static_cast<uint64_t>(height);
  if (n_pixels > limits.max_pixels) {
    return make_error(ErrorCode::kTooLarge, "%s: %d x %d are %d pixels; the limit is %d", format, width, height,
                      n_pixels, limits.max_pixels);
  }
  return {};
}

Status check_memory(const char* what, uint64_t needed, const ImageLimits& limits) {
  if (needed <= limits.max_memory) return {};
  return make_error(ErrorCode::kTooLarge, "%s: reading it takes %d MiB of memory; the limit is %d MiB", what,
                    (needed + (1 << 20) - 1) >> 20, (limits.max_memory + (1 << 20) - 1) >> 20);
}

namespace {
constexpr char kStage[] = "read image";

Error cancelled() {
  return {ErrorCode::kCancelled, "cancelled while the picture was read"};
}
}  // namespace

bool GuardedProgress::report(double fraction) noexcept {
  if (!sink_) return true;
  try {
    return sink_(kStage, fraction);
  } catch (...) {
    thrown_ = std::current_exception();
    return false;
  }
}

Error GuardedProgress::error() const {
  if (thrown_) std::rethrow_exception(thrown_);
  return cancelled();
}

Status ImageReader::report(double fraction) const {
  if (progress_ && !progress_(kStage, fraction)) return cancelled();
  return {};
}

Status ImageReader::read_rows(int64_t n_rows, uint8_t* rgb) {
  GLIMPSE_TRY(decode_rows(n_rows, rgb));
  n_read_ += n_rows;
  return report(rows_begin_ + (1 - rows_begin_) * (static_cast<double>(n_read_) /
                                                   static_cast<double>(std::max<int64_t>(1, info_.height))));
}

void composite_over_white(const uint8_t* rgba, int64_t n_pixels, uint8_t* rgb) {
  for (int64_t i = 0; i < n_pixels; ++i) {
    for (int64_t c = 0; c < 3; ++c) rgb[i * 3 + c] = over_white(rgba[i * 4 + c], rgba[i * 4 + 3]);
  }
}

ImageReaderResult open_image(std::span<const std::byte> bytes, const DecodeOptions& options) {
  if (bytes.size() > options.limits.max_bytes) {
    return make_error(ErrorCode::kTooLarge, "the picture's file has %d bytes; the limit is %d", bytes.size(),
                      options.limits.max_bytes);
  }
  return open_stored(bytes, options);
}

ImageReaderResult open_image_file(const std::string& path, const DecodeOptions& options) {
  GLIMPSE_ASSIGN(std::vector<std::byte> bytes, read_picture_file(path, options));  // its messages name the path
  DecodeOptions rest = options;
  rest.limits.max_memory -= std::min<uint64_t>(rest.limits.max_memory, bytes.capacity());
  auto reader = std::make_unique<ReaderOfFile>(std::move(bytes), path);
  const Status opened = reader->open(rest);
  if (!opened.ok()) return with_context(opened.error(), path);
  return std::unique_ptr<ImageReader>(std::move(reader));
}

std::unique_ptr<ImageReader> read_pixels_of(const uint8_t* rgb, int64_t width, int64_t height, size_t stride) {
  return std::make_unique<ReaderOfPixels>(rgb, width, height, stride);
}

Result<Image> read_image(ImageReader& reader) {
  const ImageInfo& info = reader.info();
  Image image;
  image.width = static_cast<int>(info.width);
  image.height = static_cast<int>(info.height);
  image.pixels.resize(static_cast<size_t>(info.width) * static_cast<size_t>(info.height) * 3);
  const int64_t row_bytes = info.width * 3, at_once = std::max<int64_t>(1, (1 << 20) / row_bytes);
  for (int64_t y = 0; y < info.height; y += at_once) {
    GLIMPSE_TRY(reader.read_rows(std::min(at_once, info.height - y), image.pixels.data() + y * row_bytes));
  }
  return apply_orientation(std::move(image), info.orientation);
}

Result<Image> decode_image(std::span<const std::byte> bytes, const DecodeOptions& options) {
  GLIMPSE_ASSIGN(const std::unique_ptr<ImageReader> reader, open_image(bytes, options));
  return read_image(*reader);
}

Result<Image> load_image(const std::string& path, const DecodeOptions& options) {
  GLIMPSE_ASSIGN(const std::unique_ptr<ImageReader> reader, open_image_file(path, options));
  return read_image(*reader);
}

}  // namespace glimpse
