// What a picture costs, known from its size alone: before it is resized or encoded.
#pragma once

#include <cstdint>

#include "engine/base/result.h"
#include "engine/model/config.h"
#include "engine/preprocess/preprocess.h"

namespace glimpse {

/// What a session does with a still picture.
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
