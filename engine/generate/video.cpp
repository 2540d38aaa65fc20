#include "engine/generate/video.h"

#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"

namespace glimpse {
namespace {

using Family = VisionConfig::Family;

constexpr int64_t kMostFrames = int64_t{1} << 40;  // as double, exact
constexpr double kMostSeconds = 1 << 24;

// Python's round() and numpy's: halves to even.
double round_half_even(double x) {
  const double below = std::floor(x), fraction = x - below;
  if (fraction != 0.5) return std::floor(x + 0.5);
  return std::fmod(below, 2) == 0 ? below : below + 1;
}

bool is_rate(double fps) {
  return fps > 0 && fps <= 1e6;
}

// Qwen2VLVideoProcessor.sample_frames: torch.arange(0, n, n / n_seen).int(), whose product is rounded to float.
std::vector<int64_t> from_each_part(int64_t n, double wanted, const VideoSampling& s) {
  const auto floor_even = [](double x) { return std::floor(x / 2) * 2; };
  const auto total = static_cast<double>(n);
  const double most = floor_even(std::min(static_cast<double>(s.max_frames), total));
  // transformers divides by 0 where that is none.
  const double n_seen =
      std::max(2.0, floor_even(std::min({std::max(wanted, static_cast<double>(s.min_frames)), most, total})));
  std::vector<int64_t> indices;
  const double step = total / n_seen;
  for (double i = 0; i < n_seen; ++i) {
    indices.push_back(std::min(static_cast<int64_t>(static_cast<float>(i * step)), n - 1));
  }
  return indices;
}

// Qwen3VLVideoProcessor.sample_frames: numpy.linspace(0, n - 1, n_seen).round().
std::vector<int64_t> first_to_last(int64_t n, double wanted, const VideoSampling& s) {
  const auto total = static_cast<double>(n);
  const double n_seen = std::min(
      {std::max(std::floor(wanted), static_cast<double>(s.min_frames)), static_cast<double>(s.max_frames), total});
  std::vector<int64_t> indices = {0};
  const double step = (total - 1) / (n_seen - 1);
  for (double i = 1; i < n_seen; ++i) {
    indices.push_back(i == n_seen - 1 ? n - 1 : static_cast<int64_t>(round_half_even(i * step)));
  }
  return indices;
}

struct PixelRange {
  double least, most;
};

// smart_resize() of qwen3_vl/video_processing_qwen3_vl.py: the range is that of all frames together.
ImageSize resize_with_time(double width, double height, double n_frames, double factor, const PixelRange& pixels) {
  if (height < factor || width < factor) {
    const double scale = std::max(factor / height, factor / width);
    height = std::floor(height * scale);
    width = std::floor(width * scale);
  }
  double h = round_half_even(height / factor), w = round_half_even(width / factor);
  const double t = round_half_even(n_frames / 2) * 2, cell = factor * factor;
  if (t * h * w * cell > pixels.most) {
    const double beta = std::sqrt(n_frames * height * width / pixels.most);
    h = std::max(1.0, std::floor(height / beta / factor));
    w = std::max(1.0, std::floor(width / beta / factor));
  } else if (t * h * w * cell < pixels.least) {
    const double beta = std::sqrt(pixels.least / (n_frames * height * width));
    h = std::ceil(height * beta / factor);
    w = std::ceil(width * beta / factor);
  }
  return {static_cast<int64_t>(w * factor), static_cast<int64_t>(h * factor)};
}

// Of one frame of Qwen2-VL and 2.5-VL.
ResizeLimits frame_limits(int64_t n_frames, int64_t cell, const VideoLimits& given) {
  const int64_t least = given.min_pixels > 0 ? given.min_pixels : 128 * cell;
  const int64_t most = given.max_pixels > 0 ? given.max_pixels : 768 * cell;
  const auto budget = static_cast<int64_t>(static_cast<double>(128000 * cell) * 0.9);  // of a context of 128000
  const auto floor = static_cast<int64_t>(static_cast<double>(least) * 1.05);
  return {least, std::max(std::min(most, 2 * budget / n_frames), floor)};
}

// Of all frames of Qwen3-VL; the two ends are those of the released models' video_preprocessor_config.json.
PixelRange video_pixels(int64_t n_frames, int64_t cell, const VideoLimits& given) {
  const int64_t least = given.min_pixels > 0 ? given.min_pixels : 4096;
  const int64_t most = given.max_pixels > 0 ? given.max_pixels : 25165824;
  const auto floor = static_cast<int64_t>(static_cast<double>(least) * 1.05);
  const int64_t of_frame = std::max(std::min(768 * cell, most / n_frames), floor);
  return {static_cast<double>(least), static_cast<double>(of_frame) * static_cast<double>(n_frames)};
}

Status check_limits(const VideoLimits& limits) {
  constexpr int64_t kMost = int64_t{1} << 40;
  if (limits.min_pixels < 0 || limits.max_pixels < 0 || limits.max_tokens < 0 || limits.min_pixels > kMost ||
      limits.max_pixels > kMost || (limits.max_pixels > 0 && limits.min_pixels > limits.max_pixels)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a video of %d to %d pixels and at most %d tokens: want 0 <= min <= max (0: not given)",
                      limits.min_pixels, limits.max_pixels, limits.max_tokens);
  }
  return {};
}

}  // namespace

Result<std::vector<int64_t>> sample_frames(int64_t n_frames, double fps, const VideoSampling& sampling, Family family) {
  if (n_frames < 1 || n_frames > kMostFrames || !is_rate(fps)) {
    return make_error(ErrorCode::kInvalidArgument, "a video of %d frames at %g frames per second", n_frames, fps);
  }
  if (!is_rate(sampling.fps) || sampling.min_frames < 1 ||
      sampling.max_frames < std::max<int64_t>(2, sampling.min_frames) || sampling.max_frames > 1 << 20) {
    return make_error(ErrorCode::kInvalidArgument,
                      "%g frames per second, %d to %d frames: want a rate in (0, 1000000], 1 <= min <= max and max in "
                      "[2, %d]",
                      sampling.fps, sampling.min_frames, sampling.max_frames, 1 << 20);
  }
  if (n_frames < 2) return std::vector<int64_t>{0};
  const double wanted = static_cast<double>(n_frames) / fps * sampling.fps;
  return family == Family::kQwen3 ? first_to_last(n_frames, wanted, sampling)
                                  : from_each_part(n_frames, wanted, sampling);
}

Result<ImageCost> video_cost(int64_t width, int64_t height, int64_t n_frames, const VisionConfig& vision,
                             const VideoLimits& limits, int64_t most_slice_tokens) {
  GLIMPSE_TRY(check_limits(limits));
  if (n_frames < 1 || n_frames > 1 << 20) {
    return make_error(ErrorCode::kInvalidArgument, "a video of %d frames: want 1 to %d", n_frames, 1 << 20);
  }
  const int64_t factor = vision.resize_factor(), cell = factor * factor, n_slices = ceil_div(n_frames, 2);
  if (limits.max_tokens > 0) most_slice_tokens = std::min(most_slice_tokens, limits.max_tokens / n_slices);
  if (most_slice_tokens < 1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "%d frames are at least %d tokens, and %d are allowed: see fewer frames", n_frames, n_slices,
                      limits.max_tokens);
  }
  ResizeLimits of_frame{0, most_slice_tokens * cell};
  ImageCost cost;
  if (vision.family() == Family::kQwen3) {
    // transformers knows no single frame: it is one that comes twice. Proportions are checked below.
    const auto n = static_cast<double>(std::max<int64_t>(n_frames, 2));
    const PixelRange pixels = video_pixels(n_frames, cell, limits);
    GLIMPSE_TRY(smart_resize(height, width, factor, {0, INT64_MAX / 2}));
    cost.resized = resize_with_time(static_cast<double>(width), static_cast<double>(height), n,
                                    static_cast<double>(factor), pixels);
    if (cost.resized.width * cost.resized.height > of_frame.max_pixels) {
      GLIMPSE_ASSIGN(cost.resized, smart_resize(height, width, factor, of_frame));
    }
  } else {
    const ResizeLimits released = frame_limits(n_frames, cell, limits);
    of_frame.max_pixels = std::min(released.max_pixels, of_frame.max_pixels);
    of_frame.min_pixels = std::min(released.min_pixels, of_frame.max_pixels);
    GLIMPSE_ASSIGN(cost.resized, smart_resize(height, width, factor, of_frame));
  }
  cost.grid = {n_slices, cost.resized.height / vision.patch.patch_size, cost.resized.width / vision.patch.patch_size};
  cost.n_tokens = cost.grid.n_patches() / (vision.patch.merge_size * vision.patch.merge_size);
  return cost;
}

Status check_frames(const VideoFrames& video) {
  bool sane = video.n_frames >= 1 && video.n_frames <= 1 << 20 && is_rate(video.fps) &&
              (video.seconds.empty() || static_cast<int64_t>(video.seconds.size()) == video.n_frames);
  double before = 0;
  for (const double seconds : video.seconds) {
    sane = sane && seconds >= before && seconds <= kMostSeconds;
    before = seconds;
  }
  sane = sane && static_cast<double>(video.n_frames) / video.fps <= kMostSeconds / 2;
  if (sane) return {};
  return make_error(
      ErrorCode::kInvalidArgument,
      "a video of %d frames at %g frames per second with %d times: want 1 to %d frames, times that do not "
      "go back, and at most half a year",
      video.n_frames, video.fps, video.seconds.size(), 1 << 20);
}

void set_times(const VideoFrames& video, Family family, ImageEmbedding& embedding) {
  // tokens_per_second of vision_config: 2 in the released Qwen2.5-VL (in transformers 4 where a config.json has none).
  // llama.cpp's converter writes no key for it: a file of a model trained with another number cannot say so.
  constexpr float kPositionsPerSecond = 2;
  if (family == Family::kQwen25) embedding.slice_step = kPositionsPerSecond * static_cast<float>(2 / video.fps);
  if (family != Family::kQwen3) return;
  const auto at = [&](int64_t frame) {
    frame = std::min(frame, video.n_frames - 1);  // an odd last one counts twice
    return video.seconds.empty() ? static_cast<double>(frame) / video.fps : video.seconds[static_cast<size_t>(frame)];
  };
  for (int64_t i = 0; i < video.n_frames; i += 2) embedding.slice_seconds.push_back((at(i) + at(i + 1)) / 2);
}

}  // namespace glimpse
