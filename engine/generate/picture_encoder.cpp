#include "engine/generate/picture_encoder.h"

#include "engine/base/aligned_buffer.h"

namespace glimpse {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

Status check_pixels(const Image& image) {
  if (image.width >= 1 && image.height >= 1 &&
      image.pixels.size() == 3 * static_cast<size_t>(image.width) * static_cast<size_t>(image.height)) {
    return {};
  }
  return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels with %d bytes: want 3 per pixel",
                    image.width, image.height, image.pixels.size());
}

Result<PreparedPicture> prepare_picture(ImageReader& picture, const ImageCost& cost, const PatchConfig& config,
                                        ThreadTeam* team, PatchForm form) {
  PreparedPicture out;
  out.original = {picture.info().upright_width(), picture.info().upright_height()};
  Clock::time_point start = Clock::now();
  GLIMPSE_ASSIGN(const Image resized, read_resized(picture, cost.resized, team, &out.resize_ms));
  out.decode_ms = ms_since(start) - out.resize_ms;
  start = Clock::now();
  GLIMPSE_ASSIGN(out.patches, extract_patches(resized, config, team, form));
  out.patches_ms = ms_since(start);
  return out;
}

Result<PreparedPicture> prepare_picture(const Image& image, const ImageCost& cost, const PatchConfig& config,
                                        ThreadTeam* team, PatchForm form) {
  GLIMPSE_TRY(check_pixels(image));
  const auto reader =
      read_pixels_of(image.pixels.data(), image.width, image.height, 3 * static_cast<size_t>(image.width));
  return prepare_picture(*reader, cost, config, team, form);
}

Result<std::unique_ptr<PictureEncoder>> PictureEncoder::create(std::shared_ptr<const Model> model, Ops& ops,
                                                               const Limits& limits, int64_t max_patches) {
  GLIMPSE_ASSIGN(auto vision, VisionEncoder::create(model, ops, max_patches));
  return std::unique_ptr<PictureEncoder>(new PictureEncoder(std::move(model), ops.team(), limits, std::move(vision)));
}

Result<ImageCost> PictureEncoder::cost(int64_t width, int64_t height) const {
  return effective_image_size(width, height, model_->vision(), limits_.resized);
}

// That reading and resizing the picture stays within the limit, and within what the machine has.
Status PictureEncoder::check_reading(const ImageInfo& info, ImageSize resized) const {
  const uint64_t needed = info.memory + read_resized_bytes(info, resized);
  const auto mib = [](uint64_t n) { return static_cast<double>(n) / (1 << 20); };
  if (needed > limits_.source.max_memory) {
    return make_error(ErrorCode::kTooLarge,
                      "reading a picture of %d x %d pixels takes %.1f MiB of memory; the limit is %.1f MiB", info.width,
                      info.height, mib(needed), mib(limits_.source.max_memory));
  }
  if (const uint64_t available = available_memory_bytes(); needed > available) {
    return make_error(ErrorCode::kOutOfMemory, "reading the picture takes %.1f MiB of memory, %.1f MiB are available",
                      mib(needed), mib(available));
  }
  return {};
}

Result<ImageEmbedding> PictureEncoder::encode(ImageReader& picture, Times* times, const ProgressSink& progress) {
  ImageReader* const readers[] = {&picture};
  GLIMPSE_ASSIGN(std::vector<ImageEmbedding> one, encode(readers, times, progress));
  return std::move(one[0]);
}

Result<std::vector<ImageEmbedding>> PictureEncoder::encode(std::span<ImageReader* const> pictures, Times* times,
                                                           const ProgressSink& progress) {
  Times sum;
  std::vector<Patches> patches;
  std::vector<ImageSize> originals;
  for (ImageReader* picture : pictures) {
    const ImageInfo& info = picture->info();
    GLIMPSE_ASSIGN(const ImageCost picture_cost, cost(info.upright_width(), info.upright_height()));
    GLIMPSE_TRY(check_reading(info, picture_cost.resized));
    GLIMPSE_ASSIGN(PreparedPicture prepared,
                   prepare_picture(*picture, picture_cost, model_->vision().patch, team_, vision_->patch_form()));
    sum.decode += prepared.decode_ms;
    sum.resize += prepared.resize_ms + prepared.patches_ms;
    patches.push_back(std::move(prepared.patches));
    originals.push_back(prepared.original);
  }
  const Clock::time_point start = Clock::now();
  GLIMPSE_ASSIGN(std::vector<ImageEmbedding> embeddings, vision_->encode(patches, {}, progress));
  sum.encode = ms_since(start);
  for (size_t i = 0; i < originals.size(); ++i) embeddings[i].original = originals[i];
  if (times != nullptr) *times = sum;
  return embeddings;
}

}  // namespace glimpse
