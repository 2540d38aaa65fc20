#include "engine/generate/image_budget.h"

#include <algorithm>

namespace glimpse {

Result<ResizeLimits> effective_limits(const ResizeLimits& limits, int64_t min_tokens, int64_t max_tokens,
                                      const VisionConfig& vision) {
  constexpr int64_t kMost = int64_t{1} << 24;
  if (min_tokens < 0 || max_tokens < 0 || min_tokens > kMost || max_tokens > kMost) {
    return make_error(ErrorCode::kInvalidArgument,
                      "min_image_tokens is %d and max_image_tokens is %d: each must be in [0, %d] (0: not given)",
                      min_tokens, max_tokens, kMost);
  }
  if (min_tokens > 0 && max_tokens > 0 && min_tokens > max_tokens) {
    return make_error(ErrorCode::kInvalidArgument, "min_image_tokens is %d, more than max_image_tokens, %d", min_tokens,
                      max_tokens);
  }
  const int64_t token_pixels = vision.resize_factor() * vision.resize_factor();
  ResizeLimits result = limits;
  if (max_tokens > 0) result.max_pixels = max_tokens * token_pixels;
  if (min_tokens > 0) result.min_pixels = min_tokens * token_pixels;
  if (max_tokens > 0 && min_tokens == 0) result.min_pixels = std::min(result.min_pixels, result.max_pixels);
  if (min_tokens > 0 && max_tokens == 0) result.max_pixels = std::max(result.min_pixels, result.max_pixels);
  if (result.min_pixels < 0 || result.max_pixels < result.min_pixels || result.max_pixels < token_pixels ||
      result.max_pixels / token_pixels > kMost) {
    return make_error(ErrorCode::kInvalidArgument,
                      "image_limits are %d to %d pixels: want 0 <= min <= max, and max from one token (%d pixels) "
                      "to %d tokens",
                      result.min_pixels, result.max_pixels, token_pixels, kMost);
  }
  return result;
}

Result<ImageCost> effective_image_size(int64_t width, int64_t height, const VisionConfig& vision,
                                       const ResizeLimits& limits) {
  ImageCost cost;
  GLIMPSE_ASSIGN(cost.resized, smart_resize(height, width, vision.resize_factor(), limits));
  cost.grid = {1, cost.resized.height / vision.patch.patch_size, cost.resized.width / vision.patch.patch_size};
  cost.n_tokens = cost.grid.n_patches() / (vision.patch.merge_size * vision.patch.merge_size);
  return cost;
}

}  // namespace glimpse
