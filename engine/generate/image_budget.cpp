#include "engine/generate/image_budget.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/base/checked.h"

namespace glimpse {
namespace {

// The grid of `least` to `most` tokens whose proportions are nearest to those of the picture.
std::optional<ImageSize> nearest_grid(int64_t width, int64_t height, int64_t least, int64_t most) {
  constexpr int64_t kMostSide = 1 << 16;
  const double aspect = static_cast<double>(width) / static_cast<double>(height);
  std::optional<ImageSize> best;
  double best_distance = 0;
  for (int64_t rows = 1; rows <= std::min(most, kMostSide); ++rows) {
    const int64_t fewest = ceil_div(least, rows), columns_fit = std::min(most / rows, kMostSide);
    if (fewest > columns_fit) continue;
    const int64_t wanted = std::llround(aspect * static_cast<double>(rows));
    const int64_t columns = std::clamp(wanted, fewest, columns_fit);
    const double distance = std::fabs(std::log(static_cast<double>(columns) / static_cast<double>(rows) / aspect));
    if (!best || distance < best_distance) {
      best = ImageSize{columns, rows};
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace

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
  // Who sets no lower bound gets the released models'.
  if (limits.min_pixels == ResizeLimits().min_pixels) {
    result.min_pixels = std::max(result.min_pixels, std::min(vision.least_tokens() * token_pixels, result.max_pixels));
  }
  if (max_tokens > 0) result.max_pixels = max_tokens * token_pixels;
  if (min_tokens > 0) result.min_pixels = min_tokens * token_pixels;
  if (max_tokens > 0 && min_tokens == 0) result.min_pixels = std::min(result.min_pixels, result.max_pixels);
  if (min_tokens > 0 && max_tokens == 0) {
    // Room for a grid of at least min_tokens whatever the proportions: with r rows, the shorter side, it needs no more
    // than min_tokens + r - 1.
    const auto rows = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(min_tokens))));
    result.max_pixels = std::max((min_tokens + rows) * token_pixels, result.max_pixels);
  }
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
  const int64_t factor = vision.resize_factor();
  GLIMPSE_ASSIGN(cost.resized, smart_resize(height, width, factor, limits));
  if (cost.resized.width * cost.resized.height < limits.min_pixels) {
    // smart_resize rounds a large picture down to max_pixels, and past a min_pixels that is near: the minimum holds all
    // the same wherever a grid satisfies both.
    const auto grid = nearest_grid(width, height, ceil_div(limits.min_pixels, factor * factor),
                                   limits.max_pixels / (factor * factor));
    if (grid) cost.resized = {grid->width * factor, grid->height * factor};
  }
  cost.grid = {1, cost.resized.height / vision.patch.patch_size, cost.resized.width / vision.patch.patch_size};
  cost.n_tokens = cost.grid.n_patches() / (vision.patch.merge_size * vision.patch.merge_size);
  return cost;
}

Result<PictureSizes> picture_sizes(const PictureOptions& options, const VisionConfig* vision, int64_t most_tokens) {
  const ImageLimits& source = options.source_limits;
  if (source.max_pixels < 1) return make_error(ErrorCode::kInvalidArgument, "image_source_max_pixels is 0");
  if (source.max_memory < 1) return make_error(ErrorCode::kInvalidArgument, "image_source_max_memory is 0");
  if (source.max_scans < 1 || source.max_scans > 1 << 20) {
    return make_error(ErrorCode::kInvalidArgument, "image_source_max_scans is %d: it must be in [1, %d]",
                      source.max_scans, 1 << 20);
  }
  PictureSizes sizes;
  sizes.source_limits = source;
  sizes.dedup_patches = options.dedup_patches;
  if (vision == nullptr) return sizes;
  GLIMPSE_ASSIGN(sizes.image_limits,
                 effective_limits(options.image_limits, options.min_image_tokens, options.max_image_tokens, *vision));
  const int64_t factor = vision->resize_factor(), merge = vision->patch.merge_size;
  const int64_t largest = sizes.image_limits.max_pixels / (factor * factor);
  sizes.max_image_tokens = std::min(largest, most_tokens);
  // What is left out is known when all of it is there.
  sizes.max_image_patches = (options.dedup_patches ? largest : sizes.max_image_tokens) * merge * merge;
  return sizes;
}

}  // namespace glimpse
