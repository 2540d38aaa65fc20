// What becomes of a video: which of its frames are seen, at what size, and how the decoder is told of time. As the
// video processors of Qwen2-VL, Qwen2.5-VL and Qwen3-VL in transformers do it, with their cap on pixels
// (cap_pixels_per_frame).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/generate/image_budget.h"
#include "engine/model/config.h"
#include "engine/model/image_embedding.h"
#include "loaders/image/image.h"

namespace glimpse {

struct VideoSampling {
  double fps = 2;  // frames to see per second
  int64_t min_frames = 4, max_frames = 768;
};
/// Which of n_frames frames, taken at `fps`, are seen: indices in ascending order. Qwen2-VL and 2.5-VL take an even
/// number from the beginning of each part, Qwen3-VL from the first to the last. Fewer than two frames are all seen.
/// Errors: kInvalidArgument names the number and its range.
Result<std::vector<int64_t>> sample_frames(int64_t n_frames, double fps, const VideoSampling& sampling,
                                           VisionConfig::Family family);

struct VideoLimits {
  /// Of a frame after it is resized; of Qwen3-VL of all frames together. 0: those of the released models.
  int64_t min_pixels = 0, max_pixels = 0;
  int64_t max_tokens = 0;  // of all slices together; 0: no limit but that of pixels
};
/// What n_frames frames of this size become, as pairs; all of one size. most_slice_tokens: what the encoder was made
/// for. Errors: kInvalidArgument (no frames, limits that nothing satisfies, those of smart_resize()).
Result<ImageCost> video_cost(int64_t width, int64_t height, int64_t n_frames, const VisionConfig& vision,
                             const VideoLimits& limits, int64_t most_slice_tokens);

/// A video as its frames, which are read one after another, each once.
struct VideoFrames {
  int64_t n_frames = 0;
  /// Called with 0, 1, ... n_frames - 1; the reader is used up before the next call.
  std::function<Result<std::unique_ptr<ImageReader>>(int64_t index)> open = {};
  double fps = 2;                        // of these frames
  std::span<const double> seconds = {};  // when each was taken, ascending; empty: index / fps
  VideoLimits limits = {};
};
/// That there are frames, and times that can be. Errors: kInvalidArgument.
Status check_frames(const VideoFrames& video);
/// Tells the embedding of these frames how time passes in it.
void set_times(const VideoFrames& video, VisionConfig::Family family, ImageEmbedding& embedding);

}  // namespace glimpse
