// What a picture costs, known from its size alone: before it is resized or encoded.
#pragma once

#include <cstdint>

#include "engine/base/result.h"
#include "engine/model/config.h"
#include "engine/preprocess/preprocess.h"
#include "loaders/image/image.h"

namespace glimpse {

/// What pictures may be.
struct PictureOptions {
  ResizeLimits image_limits;     // min_pixels, max_pixels of a resized one
  int64_t min_image_tokens = 0;  // overrides image_limits when not 0
  int64_t max_image_tokens = 0;
  ImageLimits source_limits;  // of pictures as they come, before they are resized
  /// Cells of still pictures that their neighbours foretell are neither encoded nor shown to the decoder: fewer tokens
  /// where much is blank, other answers, as the model was not trained so (leave_out_repeated_cells()).
  bool dedup_patches = false;
};
/// The same, checked and with every default filled in.
struct PictureSizes {
  ResizeLimits image_limits;
  ImageLimits source_limits;
  int64_t max_image_tokens = 0;   // of one picture; 0 without vision
  int64_t max_image_patches = 0;  // of one picture, with those that dedup_patches will leave out
  bool dedup_patches = false;
};
/// vision: nullptr when there is none: then only source_limits are looked at. most_tokens: that there is room for.
/// Errors: kInvalidArgument names the option and its range.
Result<PictureSizes> picture_sizes(const PictureOptions& options, const VisionConfig* vision, int64_t most_tokens);

/// What becomes of a still picture.
struct ImageCost {
  ImageSize resized;     // pixels that the encoder sees
  GridThw grid;          // patches, unmerged
  int64_t n_tokens = 0;  // cache slots
};

/// limits with their pixels replaced by token counts where those are not 0. A bound that was not given in tokens yields
/// to one that was: far enough that every proportion has a grid between the two. Errors: kInvalidArgument (negative, or
/// none satisfies both).
Result<ResizeLimits> effective_limits(const ResizeLimits& limits, int64_t min_tokens, int64_t max_tokens,
                                      const VisionConfig& vision);

/// smart_resize(), but that min_pixels holds where smart_resize() rounds below it and any grid lies between the limits:
/// then the one with the nearest proportions. Errors: those of smart_resize().
Result<ImageCost> effective_image_size(int64_t width, int64_t height, const VisionConfig& vision,
                                       const ResizeLimits& limits);

}  // namespace glimpse
