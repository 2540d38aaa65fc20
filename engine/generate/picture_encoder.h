// Pictures to embeddings: what a session, a tool or a server does with a picture before the decoder sees it.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/function_ref.h"
#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/base/thread_team.h"
#include "engine/generate/image_budget.h"
#include "engine/generate/memory_plan.h"
#include "engine/generate/video.h"
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

/// Tokens that the decoder will see of a picture: of its size or, where repeated cells are left out, of its pixels,
/// which are read then, by one thread. Errors: those of effective_image_size() and of prepare_picture(); kTooLarge
/// (more memory than the limit to read it), kOutOfMemory.
Result<int64_t> count_image_tokens(ImageReader& picture, const VisionConfig& vision, const PictureSizes& sizes);

struct EncoderOptions : PictureOptions {
  int n_threads = 0;  // 0: available_cpus()
  LogSink log;
  /// As SessionOptions::cancel.
  const volatile int* cancel = nullptr;
};
/// Memory that an encoder of its own will use. Errors: kMismatch (a model without vision), those of picture_sizes().
Result<MemoryPlan> plan_encoder(const Model& model, const EncoderOptions& options);

/// The vision encoder with all that comes before it; needs no session.
class PictureEncoder {
 public:
  /// Milliseconds, of all pictures together.
  struct Times {
    double decode = 0;
    double resize = 0;  // with the patches
    double encode = 0;
  };

  /// On the threads of somebody else. ops: outlives the encoder; its threads read pictures, too. Errors: those of
  /// VisionEncoder::create().
  static Result<std::unique_ptr<PictureEncoder>> create(std::shared_ptr<const Model> model, Ops& ops,
                                                        const PictureSizes& sizes);
  /// On threads of its own. Errors also: those of plan_encoder(), kOutOfMemory with the plan's sizes.
  static Result<std::unique_ptr<PictureEncoder>> create(std::shared_ptr<const Model> model,
                                                        const EncoderOptions& options);

  const PictureSizes& sizes() const { return sizes_; }
  /// With what encoded pictures are to be opened for encode().
  DecodeOptions decode_options(const ProgressSink& progress) const;
  /// What a picture of this size, upright, will cost. Errors: those of effective_image_size().
  Result<ImageCost> cost(int64_t width, int64_t height) const;
  /// Whether there is room for so many tokens, which are those that the decoder will see.
  using Fits = FunctionRef<Status(int64_t n_tokens)>;
  /// fits: asked before anything is read or, where repeated cells are left out, when it is known which. Errors: those
  /// of the reader, of cost() and of `fits`; kTooLarge (more memory than the limit to read it), kOutOfMemory, those of
  /// VisionEncoder::encode().
  Result<ImageEmbedding> encode(ImageReader& picture, Fits fits, Times* times, const ProgressSink& progress);
  /// The same where there is room for any.
  Result<ImageEmbedding> encode(ImageReader& picture, Times* times, const ProgressSink& progress);
  /// encode() in two parts: what comes before the encoder proper, and that. Errors: as of encode(), in the one or the
  /// other.
  Result<PreparedPicture> prepare(ImageReader& picture, Fits fits) const;
  Result<std::vector<ImageEmbedding>> encode(std::vector<PreparedPicture> pictures, const ProgressSink& progress);
  /// Several at once: small ones share passes, and no more are read ahead than a pass takes. The same embeddings as one
  /// by one. Errors: of the first bad picture, "picture 2 of 5: ..."; the sizes of all are checked before the first is
  /// read.
  Result<std::vector<ImageEmbedding>> encode(std::span<ImageReader* const> pictures, Times* times,
                                             const ProgressSink& progress);
  /// Reads and encodes a video's frames, as many at a time as go through a pass together. fits: asked with what the
  /// video will cost, before a frame is decoded. Errors: those of check_frames(), of video_cost(), of VideoFrames::open
  /// and of the readers, "frame 3 of 8: ..."; kInvalidArgument (frames of different sizes); those of `fits` and of
  /// VisionEncoder::encode_video().
  Result<ImageEmbedding> encode_video(const VideoFrames& video, FunctionRef<Status(const ImageCost& cost)> fits,
                                      Times* times, const ProgressSink& progress);

 private:
  PictureEncoder(std::shared_ptr<const Model> model, Ops& ops, const PictureSizes& sizes,
                 std::unique_ptr<VisionEncoder> vision)
      : model_(std::move(model)), ops_(ops), sizes_(sizes), vision_(std::move(vision)) {}
  ProgressSink watched(const ProgressSink& progress) const;
  Result<PreparedPicture> prepare(ImageReader& picture, const ImageCost& cost) const;
  Status read_frames(const VideoFrames& video, const ImageCost& cost, int64_t begin, int64_t end,
                     std::unique_ptr<ImageReader> first, ImageSize& original, Times& sum, std::vector<Patches>& out);
  Status encode_group(std::span<ImageReader* const> pictures, std::span<const ImageCost> costs, size_t first, size_t n,
                      Times& sum, const ProgressSink& progress, std::vector<ImageEmbedding>& out);

  const std::shared_ptr<const Model> model_;
  std::unique_ptr<Ops> own_ops_;  // goes last
  Ops& ops_;
  const PictureSizes sizes_;
  const std::unique_ptr<VisionEncoder> vision_;
  const volatile int* cancel_ = nullptr;  // of an encoder of its own
};

}  // namespace glimpse
