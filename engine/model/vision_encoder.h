// The vision encoder's forward pass: patches to image embeddings.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/model/image_embedding.h"
#include "engine/model/model.h"
#include "engine/model/tap.h"
#include "engine/preprocess/preprocess.h"
#include "engine/runtime/ops.h"

namespace glimpse {

/// The vision encoder's scratch memory, sized once for a number of patches.
class VisionEncoder {
 public:
  ~VisionEncoder();
  /// max_patches: of the largest still picture or temporal slice; smaller ones share a pass where they fit into it
  /// together. Errors: kOutOfMemory.
  static Result<std::unique_ptr<VisionEncoder>> create(std::shared_ptr<const Model> model, Ops& ops,
                                                       int64_t max_patches);
  static uint64_t plan_bytes(const Model& model, const Ops& ops, int64_t max_patches);

  /// How patches reach the backend with the least to send; encode() takes either, with the same result.
  PatchForm patch_form() const;
  /// Runs the encoder on one still picture's patches. Errors: kTooLarge (more patches than planned), kNumeric (a NaN or
  /// infinity, names the layer), kCancelled.
  Result<ImageEmbedding> encode(const Patches& patches, const TapSink& tap, const ProgressSink& progress);
  /// The same for several, in as few passes as they fit into (one each when there is a tap). What becomes of a picture
  /// does not depend on the others; an error is that of all.
  Result<std::vector<ImageEmbedding>> encode(std::span<const Patches> pictures, const TapSink& tap,
                                             const ProgressSink& progress);
  /// Runs the encoder on the frames of a video, two per temporal slice (an odd last frame counts twice); grid.t is the
  /// number of pairs. Attention stays inside a slice. Errors: as encode(); kInvalidArgument for no frames or frames of
  /// different sizes.
  Result<ImageEmbedding> encode_video(std::span<const Patches> frames, const TapSink& tap,
                                      const ProgressSink& progress);

 private:
  VisionEncoder();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace glimpse
