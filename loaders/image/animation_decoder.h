// The decoders behind open_animation(). Private to loaders/image.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include "loaders/image/animation.h"

namespace glimpse {

constexpr int64_t kMostAnimationFrames = 1 << 20;
// Of all frames together: a file of megabytes can ask for days of drawing. 16000 frames of 1920 x 1080.
constexpr int64_t kMostAnimationPixels = int64_t{1} << 35;

/// What a frame of so many thousandths of a second takes.
inline double frame_seconds(int64_t milliseconds) {
  return milliseconds <= 10 ? 0.1 : static_cast<double>(milliseconds) / 1000;
}

Result<std::unique_ptr<Animation>> open_animated_gif(std::span<const std::byte> bytes, const DecodeOptions& options);
Result<std::unique_ptr<Animation>> open_animated_webp(std::span<const std::byte> bytes, const DecodeOptions& options);

}  // namespace glimpse
