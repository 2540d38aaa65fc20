// Pictures to embeddings: what a session, a tool or a server does with a picture before the decoder sees it.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/base/thread_team.h"
#include "engine/generate/image_budget.h"
#include "engine/model/vision_encoder.h"
#include "engine/preprocess/preprocess.h"
#include "loaders/image/image.h"

namespace glimpse {

/// A picture as the vision encoder takes it, and the milliseconds that it took.
struct PreparedPicture {
  Patches patches;
  ImageSize original;    // upright
  double decode_ms = 0;  // in its reader
  double resize_ms = 0;
  double patches_ms = 0;  // normalised values, in merge order
};

/// That pixels fit their size. Errors: kInvalidArgument.
Status check_pixels(const Image& image);

/// Reads a picture while it is resized, and cuts it into patches. cost: of its upright size. team: may be nullptr (one
/// thread). Errors: those of read_resized().
Result<PreparedPicture> prepare_picture(ImageReader& picture, const ImageCost& cost, const PatchConfig& config,
                                        ThreadTeam* team, PatchForm form = PatchForm::kValues);
/// The same for pixels. Errors also: those of check_pixels().
Result<PreparedPicture> prepare_picture(const Image& image, const ImageCost& cost, const PatchConfig& config,
                                        ThreadTeam* team, PatchForm form = PatchForm::kValues);

/// The vision encoder with all that comes before it; needs no session.
class PictureEncoder {
 public:
  struct Limits {
    ResizeLimits resized;  // of the picture that the encoder sees
    ImageLimits source;    // of the one that is read
  };
  /// Milliseconds, of all pictures together.
  struct Times {
    double decode = 0;
    double resize = 0;  // with the patches
    double encode = 0;
  };

  /// max_patches: as of VisionEncoder. ops: outlives the encoder; its threads read pictures, too. Errors: those of
  /// VisionEncoder::create().
  static Result<std::unique_ptr<PictureEncoder>> create(std::shared_ptr<const Model> model, Ops& ops,
                                                        const Limits& limits, int64_t max_patches);

  /// What a picture of this size, upright, will cost. Errors: those of effective_image_size().
  Result<ImageCost> cost(int64_t width, int64_t height) const;
  /// Errors: those of the reader and of cost(); kTooLarge (more memory than the limit to read it), kOutOfMemory, those
  /// of VisionEncoder::encode().
  Result<ImageEmbedding> encode(ImageReader& picture, Times* times, const ProgressSink& progress);
  /// Several at once: small ones share passes. The same embeddings as one by one. Errors: of the first bad picture.
  Result<std::vector<ImageEmbedding>> encode(std::span<ImageReader* const> pictures, Times* times,
                                             const ProgressSink& progress);

 private:
  PictureEncoder(std::shared_ptr<const Model> model, ThreadTeam* team, const Limits& limits,
                 std::unique_ptr<VisionEncoder> vision)
      : model_(std::move(model)), team_(team), limits_(limits), vision_(std::move(vision)) {}
  Status check_reading(const ImageInfo& info, ImageSize resized) const;

  const std::shared_ptr<const Model> model_;
  ThreadTeam* const team_;  // may be nullptr
  const Limits limits_;
  const std::unique_ptr<VisionEncoder> vision_;
};

}  // namespace glimpse
