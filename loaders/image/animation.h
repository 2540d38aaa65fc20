// Animated GIF and WebP, frame by frame.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "engine/base/result.h"
#include "loaders/image/image.h"

namespace glimpse {

struct AnimationInfo {
  int64_t width = 0, height = 0;  // of every frame as it is shown
  int64_t n_frames = 0;
  double seconds = 0;  // of all frames; those that ask for no time, or a hundredth, get a tenth, as browsers give them
};

/// Its canvas, over white, as a player shows it after each frame.
class Animation {
 public:
  virtual ~Animation() = default;
  const AnimationInfo& info() const { return info_; }
  /// Draws the next frame. Precondition: one is left. Errors: those of decode_image().
  virtual Status next() = 0;
  const Image& canvas() const { return canvas_; }

 protected:
  AnimationInfo info_;
  Image canvas_;
};

/// Goes through the file for the number of its frames and their times; a still GIF or WebP has one. `bytes` must
/// outlive the animation. Errors: those of decode_image(); kUnsupported for other formats.
Result<std::unique_ptr<Animation>> open_animation(std::span<const std::byte> bytes, const DecodeOptions& options);

}  // namespace glimpse
