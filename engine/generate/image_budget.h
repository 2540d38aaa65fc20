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
/// to one that was. Errors: kInvalidArgument (negative, or none satisfies both).
Result<ResizeLimits> effective_limits(const ResizeLimits& limits, int64_t min_tokens, int64_t max_tokens,
                                      const VisionConfig& vision);

/// Errors: those of smart_resize().
Result<ImageCost> effective_image_size(int64_t width, int64_t height, const VisionConfig& vision,
                                       const ResizeLimits& limits);

}  // namespace glimpse
