#include "tools/eval/pictures.h"

#include "engine/generate/picture_encoder.h"
#include "loaders/image/image.h"

namespace glimpse::eval {
namespace {

std::string digest_of(const Image& image) {
  uint64_t hash = 14695981039346656037u;
  const auto add = [&hash](uint64_t byte) { hash = (hash ^ byte) * 1099511628211u; };
  for (int shift = 0; shift < 32; shift += 8) {
    add(static_cast<uint64_t>(image.width) >> shift & 0xff);
    add(static_cast<uint64_t>(image.height) >> shift & 0xff);
  }
  for (const uint8_t byte : image.pixels) add(byte);
  return format("%016x", hash);
}

}  // namespace

Result<Picture> read_picture(const std::string& path, const VisionConfig& vision, const PictureLimits& limits) {
  GLIMPSE_ASSIGN(const Image image, load_image(path, {}));
  GLIMPSE_ASSIGN(const ResizeLimits pixels, effective_limits({}, limits.min_tokens, limits.max_tokens, vision));
  GLIMPSE_ASSIGN(const ImageCost cost, effective_image_size(image.width, image.height, vision, pixels));
  GLIMPSE_ASSIGN(PreparedPicture prepared, prepare_picture(image, cost, vision.patch, nullptr));
  Picture picture;
  picture.patches = std::move(prepared.patches);
  picture.digest = digest_of(image);
  return picture;
}

}  // namespace glimpse::eval
