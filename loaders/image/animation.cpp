#include "loaders/image/animation.h"

#include "loaders/image/animation_decoder.h"
#include "loaders/image/decoder.h"

namespace glimpse {

Result<std::unique_ptr<Animation>> open_animation(std::span<const std::byte> bytes, const DecodeOptions& options) {
  GLIMPSE_ASSIGN(const ImageFormat format, sniff_format(bytes));
#ifdef GLIMPSE_HAS_GIF
  if (format == ImageFormat::kGif) return open_animated_gif(bytes, options);
#endif
#ifdef GLIMPSE_HAS_WEBP
  if (format == ImageFormat::kWebp) return open_animated_webp(bytes, options);
#endif
  (void)format, (void)options;
  return make_error(ErrorCode::kUnsupported, "it is no GIF and no WebP that this build reads");
}

}  // namespace glimpse
