// HEIC and AVIF through libheif: the primary picture of the file. Left out of the build when libheif is missing.
//
// libheif decodes whole pictures, in threads of its own unless told otherwise, and allocates what the coded pictures
// say: scan_heif() looks at all of them first.
#include <libheif/heif.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "loaders/image/decoder.h"
#include "loaders/image/heif_boxes.h"

namespace glimpse {
namespace {

struct FreeHeif {
  void operator()(heif_context* context) const { heif_context_free(context); }
  void operator()(heif_image_handle* handle) const { heif_image_handle_release(handle); }
  void operator()(heif_image* image) const { heif_image_release(image); }
  void operator()(heif_decoding_options* options) const { heif_decoding_options_free(options); }
};

class HeifReader final : public ImageReader {
 public:
  HeifReader(const char* format, const DecodeOptions& options) : format_(format), limits_(options.limits) {
    progress_ = options.progress;
    rows_begin_ = kDecodeShare;
  }

  Status open(std::span<const std::byte> bytes) {
    GLIMPSE_ASSIGN(const HeifSizes sizes, scan_heif(format_, bytes, limits_));
    context_.reset(heif_context_alloc());
    if (context_ == nullptr) return make_error(ErrorCode::kOutOfMemory, "%s: out of memory", format_);
    heif_context_set_max_decoding_threads(context_.get(), 0);
    heif_context_set_maximum_image_size_limit(context_.get(), std::max(limits_.max_width, limits_.max_height));
    GLIMPSE_TRY(check(heif_context_read_from_memory_without_copy(context_.get(), bytes.data(), bytes.size(), nullptr)));
    heif_image_handle* handle = nullptr;
    GLIMPSE_TRY(check(heif_context_get_primary_image_handle(context_.get(), &handle)));
    handle_.reset(handle);
    info_.width = heif_image_handle_get_width(handle);  // upright, and cropped where the file says so
    info_.height = heif_image_handle_get_height(handle);
    GLIMPSE_TRY(check_size(format_, info_.width, info_.height, limits_));
    channels_ = heif_image_handle_has_alpha_channel(handle) != 0 ? 4 : 3;
    premultiplied_ = heif_image_handle_is_premultiplied_alpha(handle) != 0;
    info_.memory = sizeof *this + memory(sizes, bytes.size());
    return check_memory(format_, info_.memory, limits_);
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    if (image_ == nullptr) GLIMPSE_TRY(decode());
    for (int64_t i = 0; i < n_rows; ++i, ++y_, rgb += info_.width * 3) {
      const uint8_t* row = pixels_ + static_cast<size_t>(y_) * stride_;
      if (channels_ == 3) {
        std::memcpy(rgb, row, static_cast<size_t>(info_.width) * 3);
      } else if (!premultiplied_) {
        composite_over_white(row, info_.width, rgb);
      } else {
        for (int64_t x = 0; x < info_.width; ++x) {
          for (int64_t c = 0; c < 3; ++c) {
            rgb[x * 3 + c] = static_cast<uint8_t>(std::min(255, row[x * 4 + c] + 255 - row[x * 4 + 3]));
          }
        }
      }
    }
    return {};
  }

 private:
  static constexpr double kDecodeShare = 0.9;

  Status check(const heif_error& error) const {
    if (error.code == heif_error_Ok) return {};
    ErrorCode code = ErrorCode::kCorrupt;
    const char* advice = "";
    if (error.code == heif_error_Memory_allocation_error) {
      code = error.subcode == heif_suberror_Security_limit_exceeded ? ErrorCode::kTooLarge : ErrorCode::kOutOfMemory;
    } else if (error.code == heif_error_Unsupported_feature || error.code == heif_error_Unsupported_filetype) {
      code = ErrorCode::kUnsupported;
      advice = "; convert it to JPEG, for example: heif-convert FILE picture.jpg";
    } else if (error.subcode == heif_suberror_End_of_data) {
      code = ErrorCode::kTruncated;
    }
    return make_error(code, "%s: %s%s", format_, error.message != nullptr ? error.message : "damaged", advice);
  }

  // Measured (tests/memory): the planes of the largest picture in the decoder and as they are given to libheif, what
  // libaom holds beside them, RGB of 16 bits where samples have more than 8, the pixels that are given.
  uint64_t memory(const HeifSizes& sizes, size_t n_bytes) const {
    constexpr uint64_t kLibrary = 4 << 20, kAv1BytesPerPixel = 11;
    const uint64_t samples = sizes.n_pixels * sizes.sample_bytes;
    const uint64_t planes = samples * sizes.half_planes / 2, alpha = channels_ == 4 ? 2 * samples : 0;
    const uint64_t wide = sizes.sample_bytes == 2 ? 6 * sizes.n_pixels : 0;
    const uint64_t decoder = sizes.has_av1 ? kAv1BytesPerPixel * samples : 0;
    return kLibrary + 2 * n_bytes + 2 * planes + decoder + alpha + wide + sizes.n_pixels * channels_;
  }

  static bool has_decoder(heif_compression_format coding, const char* name) {
    const heif_decoder_descriptor* found[16];
    const int n = heif_get_decoder_descriptors(coding, found, 16);
    return std::any_of(found, found + std::clamp(n, 0, 16), [&](const heif_decoder_descriptor* decoder) {
      return std::strcmp(heif_decoder_descriptor_get_id_name(decoder), name) == 0;
    });
  }

  Status decode() {
    GLIMPSE_TRY(report(0));
    const std::unique_ptr<heif_decoding_options, FreeHeif> options(heif_decoding_options_alloc());
    if (options == nullptr) return make_error(ErrorCode::kOutOfMemory, "%s: out of memory", format_);
    options->convert_hdr_to_8bit = 1;
    if (options->version >= 3) options->strict_decoding = 1;
    // dav1d, the other decoder of AV1, prints what it finds wrong.
    if (options->version >= 4 && has_decoder(heif_compression_AV1, "aom")) options->decoder_id = "aom";
    heif_image* image = nullptr;
    GLIMPSE_TRY(check(heif_decode_image(handle_.get(), &image, heif_colorspace_RGB,
                                        channels_ == 4 ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB,
                                        options.get())));
    image_.reset(image);
    int stride = 0;
    pixels_ = heif_image_get_plane_readonly(image, heif_channel_interleaved, &stride);
    stride_ = static_cast<size_t>(std::max(0, stride));
    const int width = heif_image_get_width(image, heif_channel_interleaved);
    const int height = heif_image_get_height(image, heif_channel_interleaved);
    if (pixels_ == nullptr || width != info_.width || height != info_.height ||
        stride_ < static_cast<size_t>(width) * channels_) {
      return make_error(ErrorCode::kCorrupt, "%s: the picture is %d x %d, its header says %d x %d", format_, width,
                        height, info_.width, info_.height);
    }
    return report(kDecodeShare);
  }

  const char* const format_;
  const ImageLimits limits_;
  std::unique_ptr<heif_context, FreeHeif> context_;
  std::unique_ptr<heif_image_handle, FreeHeif> handle_;
  std::unique_ptr<heif_image, FreeHeif> image_;
  const uint8_t* pixels_ = nullptr;  // (height, stride_), of channels_ bytes a pixel
  size_t stride_ = 0, channels_ = 3;
  bool premultiplied_ = false;
  int64_t y_ = 0;
};

}  // namespace

ImageReaderResult open_heif(const char* format, std::span<const std::byte> bytes, const DecodeOptions& options) {
  auto reader = std::make_unique<HeifReader>(format, options);
  GLIMPSE_TRY(reader->open(bytes));
  return std::unique_ptr<ImageReader>(std::move(reader));
}

}  // namespace glimpse
