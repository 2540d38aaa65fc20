// WebP through libwebp: lossy, lossless, with alpha; of an animation the first frame. Left out of the build when
// libwebp is missing.
#include <webp/decode.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/orientation.h"
#include "loaders/image/webp_chunks.h"

namespace glimpse {
namespace {

Error decode_error(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return make_error(ErrorCode::kOutOfMemory, "WebP: out of memory");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return make_error(ErrorCode::kUnsupported, "WebP: unsupported feature");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return make_error(ErrorCode::kTruncated, "WebP: the data end in the middle of the picture");
    default:
      return make_error(ErrorCode::kCorrupt, "WebP: damaged bitstream");
  }
}

// libwebp decodes whole pictures only: here one is held, as RGB or, when it may have alpha, RGBA, and given in rows.
class WebpReader final : public ImageReader {
 public:
  explicit WebpReader(const DecodeOptions& options) : options_(options) {
    progress_ = options.progress;
    rows_begin_ = kDecodeShare;
  }

  Status open(std::span<const std::byte> bytes) {
    WebPBitstreamFeatures features;
    const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
    if (const VP8StatusCode status = WebPGetFeatures(data, bytes.size(), &features); status != VP8_STATUS_OK) {
      return decode_error(status);
    }
    GLIMPSE_TRY(check_size("WebP", features.width, features.height, options_.limits));
    info_.width = features.width;
    info_.height = features.height;
    const auto chunks = bytes.subspan(kRiffHeaderBytes);
    if (options_.apply_exif_orientation) info_.orientation = find_tags(chunks).orientation();
    file_ = bytes;
    channels_ = features.has_alpha != 0 ? 4 : 3;
    frame_.width = features.width;
    frame_.height = features.height;
    bool lossless = features.format == 2;
    if (features.has_animation != 0) {
      GLIMPSE_ASSIGN(frame_, first_frame(chunks));
      if (frame_.x + frame_.width > info_.width || frame_.y + frame_.height > info_.height) {
        return make_error(ErrorCode::kCorrupt, "WebP: the first frame reaches outside the canvas");
      }
      file_ = frame_.file;
      channels_ = 4;
      lossless = true;  // or not: the larger estimate
    }
    info_.memory = sizeof *this + frame_.file.capacity() + memory(lossless);
    return check_memory("WebP", info_.memory, options_.limits);
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    if (pixels_.empty()) GLIMPSE_TRY(decode());
    const size_t row_bytes = static_cast<size_t>(frame_.width) * channels_;
    for (int64_t i = 0; i < n_rows; ++i, ++y_, rgb += info_.width * 3) {
      const int64_t y = y_ - frame_.y;
      const bool inside = y >= 0 && y < frame_.height;
      // The canvas of an animation is transparent (so white) where the first frame does not reach.
      if (!inside || frame_.width != info_.width) std::fill_n(rgb, info_.width * 3, uint8_t{255});
      if (!inside) continue;
      const uint8_t* row = pixels_.data() + static_cast<size_t>(y) * row_bytes;
      if (channels_ == 3) {
        std::memcpy(rgb, row, row_bytes);
      } else {
        composite_over_white(row, frame_.width, rgb + frame_.x * 3);
      }
    }
    return {};
  }

 private:
  static constexpr double kDecodeShare = 0.9;

  static OrientationTags find_tags(std::span<const std::byte> chunks) {
    OrientationTags tags;
    WebpChunk chunk;
    while (next_chunk(chunks, chunk)) {
      if (chunk.data.size() > OrientationTags::kMost) continue;
      if (is(chunk, "EXIF") && tags.exif.empty()) tags.exif.assign(chunk.data.begin(), chunk.data.end());
      if (is(chunk, "XMP ") && tags.xmp.empty()) tags.xmp.assign(chunk.data.begin(), chunk.data.end());
    }
    return tags;
  }

  // Beside the pixels given: lossless pictures, and the alpha of lossy ones, are decoded to 32 bits a pixel first; then
  // there are tables and the rows in work. (Prefix codes are counted for as many groups as libwebp's encoder makes.)
  uint64_t memory(bool lossless) const {
    constexpr uint64_t kTables = 1 << 20, kPrefixCodes = 2600 * 11264, kBytesPerColumn = 160;
    const uint64_t n_pixels = static_cast<uint64_t>(frame_.width) * static_cast<uint64_t>(frame_.height);
    const bool holds_words = lossless || channels_ == 4;
    return n_pixels * (channels_ + (holds_words ? 4 : 0) + (channels_ == 4 && !lossless ? 1 : 0)) +
           static_cast<uint64_t>(frame_.width) * kBytesPerColumn + kTables + (holds_words ? kPrefixCodes : 0);
  }

  Status configure(WebPDecoderConfig& config) {
    if (WebPInitDecoderConfig(&config) == 0) {
      return make_error(ErrorCode::kInternal, "WebP: another libwebp than built for");
    }
    const auto* data = reinterpret_cast<const uint8_t*>(file_.data());
    if (const VP8StatusCode status = WebPGetFeatures(data, file_.size(), &config.input); status != VP8_STATUS_OK) {
      return decode_error(status);
    }
    if (config.input.width != frame_.width || config.input.height != frame_.height) {
      return make_error(ErrorCode::kCorrupt, "WebP: the frame is %d x %d, its header says %d x %d", config.input.width,
                        config.input.height, frame_.width, frame_.height);
    }
    pixels_.resize(static_cast<size_t>(frame_.width) * static_cast<size_t>(frame_.height) * channels_);
    config.output.colorspace = channels_ == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels_.data();
    config.output.u.RGBA.stride = static_cast<int>(static_cast<size_t>(frame_.width) * channels_);
    config.output.u.RGBA.size = pixels_.size();
    return {};
  }

  // At once: the decoder that takes pieces of a file (WebPIDecoder), between which one could cancel, crashes in libwebp
  // 1.2.4 where memory runs out, or calls that damage.
  Status decode() {
    WebPDecoderConfig config;
    GLIMPSE_TRY(configure(config));
    GLIMPSE_TRY(report(0));
    const auto* data = reinterpret_cast<const uint8_t*>(file_.data());
    if (const VP8StatusCode status = WebPDecode(data, file_.size(), &config); status != VP8_STATUS_OK) {
      return decode_error(status);
    }
    return report(kDecodeShare);
  }

  const DecodeOptions options_;
  std::span<const std::byte> file_;  // a still picture
  WebpFrame frame_;                  // where on the canvas it lies
  size_t channels_ = 3;
  std::vector<uint8_t> pixels_;  // (frame_.height, frame_.width, channels_)
  int64_t y_ = 0;
};

}  // namespace

ImageReaderResult open_webp(std::span<const std::byte> bytes, const DecodeOptions& options) {
  if (bytes.size() < kRiffHeaderBytes || load_le32(bytes.data() + 4) > bytes.size() - 8) {
    return make_error(ErrorCode::kTruncated, "WebP: the file is shorter than its header says");
  }
  return opened<WebpReader>(bytes, options);
}

}  // namespace glimpse
