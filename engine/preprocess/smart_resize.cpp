#include <algorithm>
#include <cmath>
#include <cstdint>

#include "engine/base/checked.h"
#include "engine/preprocess/preprocess.h"

namespace glimpse {
namespace {

// Sides above this are no pictures; below it, areas fit int64 and are exact enough in double.
constexpr int64_t kMaxSide = int64_t{1} << 24;
constexpr int64_t kMaxMinPixels = int64_t{1} << 48;
constexpr double kMaxAspectRatio = 200;

// Python's round(): to nearest, halves to even, whatever the rounding mode of the process is.
double round_half_even(double x) {
  const double below = std::floor(x), fraction = x - below;
  if (fraction < 0.5) return below;
  if (fraction > 0.5) return below + 1;
  return std::fmod(below, 2) == 0 ? below : below + 1;
}

int64_t multiple(double n, int64_t factor) {
  return static_cast<int64_t>(n) * factor;
}

}  // namespace

Result<ImageSize> smart_resize(int64_t height, int64_t width, int64_t factor, const ResizeLimits& limits) {
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide) {
    return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels cannot be resized", width, height);
  }
  if (factor < 1 || factor > kMaxSide || limits.min_pixels < 0 || limits.min_pixels > kMaxMinPixels ||
      limits.max_pixels < limits.min_pixels || limits.max_pixels < factor * factor) {
    return make_error(ErrorCode::kInvalidArgument, "no multiple of %d pixels has an area from %d to %d", factor,
                      limits.min_pixels, limits.max_pixels);
  }
  const double h = static_cast<double>(height), w = static_cast<double>(width), f = static_cast<double>(factor);
  if (std::max(h, w) / std::min(h, w) > kMaxAspectRatio) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a picture of %d x %d pixels is too thin: one side may be at "
                      "most %d times the other",
                      width, height, static_cast<int>(kMaxAspectRatio));
  }
  const double min_pixels = static_cast<double>(limits.min_pixels);
  const double max_pixels = static_cast<double>(limits.max_pixels);
  ImageSize size;
  size.height = multiple(round_half_even(h / f), factor);
  size.width = multiple(round_half_even(w / f), factor);
  if (size.height * size.width > limits.max_pixels) {
    const double beta = std::sqrt(h * w / max_pixels);
    size.height = multiple(std::floor(h / beta / f), factor);
    size.width = multiple(std::floor(w / beta / f), factor);
  } else if (size.height * size.width < limits.min_pixels) {  // also when a side was rounded to 0
    const double beta = std::sqrt(min_pixels / (h * w));
    size.height = multiple(std::ceil(h * beta / f), factor);
    size.width = multiple(std::ceil(w * beta / f), factor);
  }
  size.height = std::max(size.height, factor);
  size.width = std::max(size.width, factor);

  // Ours: raising a side to `factor`, or rounding up to min_pixels, may have passed max_pixels.
  int64_t& longer = size.height > size.width ? size.height : size.width;
  int64_t& shorter = size.height > size.width ? size.width : size.height;
  if (shorter * longer > limits.max_pixels) {
    longer = std::max(factor, limits.max_pixels / shorter / factor * factor);
    if (shorter * longer > limits.max_pixels) shorter = limits.max_pixels / longer / factor * factor;
  }
  return size;
}

}  // namespace glimpse
