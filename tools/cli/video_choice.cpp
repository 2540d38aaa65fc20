#include "tools/cli/video_choice.h"

#include <numeric>
#include <stdexcept>

#include "tools/cli/terminal.h"
#include "tools/video/source.h"

namespace glimpse::cli {
namespace {

template <typename T>
T value_or_throw(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

// Frames on their way to the library, which asks for them one by one.
struct Feed {
  video::Source* source = nullptr;
  video::Frame frame;  // the last one given
  std::string problem;
};

int give_frame(void* user, size_t, glimpse_picture* picture) {
  Feed& feed = *static_cast<Feed*>(user);
  Result<video::Frame> next = feed.source->next();
  if (!next.ok()) {
    feed.problem = next.error().message;
    return 0;
  }
  feed.frame = std::move(next).value();
  if (!feed.frame.path.empty()) {
    picture->path = feed.frame.path.c_str();
    return 1;
  }
  picture->rgb = feed.frame.image.pixels.data();
  picture->width = feed.frame.image.width;
  picture->height = feed.frame.image.height;
  return 1;
}

// All of them where nobody says how fast they follow.
std::vector<int64_t> frames_to_see(const VideoChoice& choice, const video::Source& source, const api::Model& model) {
  if (source.fps() <= 0) {
    std::vector<int64_t> all(static_cast<size_t>(source.n_frames()));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  glimpse_video_sampling sampling = api::video_sampling();
  sampling.fps = choice.fps;
  sampling.min_frames = choice.min_frames;
  sampling.max_frames = choice.max_frames;
  const auto seen = model.sample_video(static_cast<size_t>(source.n_frames()), source.fps(), sampling);
  return {seen.begin(), seen.end()};
}

}  // namespace

void add_video_options(CLI::App& command, VideoChoice& choice) {
  command
      .add_option(
          "--video", choice.videos,
          "video: a folder of frames, an animated GIF or WebP, or a film, which the ffmpeg program reads; may be "
          "given several times")
      ->allow_extra_args(false);
  command
      .add_option("--frame", choice.frames,
                  "picture; all that are given are the frames of one video, after those of --video")
      ->allow_extra_args(false);
  add_seeing_options(command, choice);
  add_frame_rate_option(command, choice);
}

void add_seeing_options(CLI::App& command, VideoChoice& choice) {
  command.add_option("--fps", choice.fps, "frames of a video to see per second")->capture_default_str();
  command.add_option("--min-frames", choice.min_frames, "see at least this many, where it has them")
      ->capture_default_str();
  command.add_option("--max-frames", choice.max_frames, "see at most this many")->capture_default_str();
  command.add_option("--video-min-pixels", choice.min_pixels,
                     "least pixels of a resized frame (Qwen3-VL: of all together); default: as the model was released");
  command.add_option("--video-max-pixels", choice.max_pixels, "the same, at most");
  command.add_option("--video-max-tokens", choice.max_tokens,
                     "shrink frames until a video has at most this many tokens");
}

void add_frame_rate_option(CLI::App& command, VideoChoice& choice) {
  command.add_option(
      "--frame-rate", choice.rate,
      "frames per second that a folder's pictures, or those of --frame, were taken at; not given: all are "
      "seen, as if there were --fps of them in a second");
}

api::Embedding encode_video(const VideoChoice& choice, size_t i, const api::Model& model, api::Session& session,
                            const api::Progress& progress, VideoFacts* facts) {
  video::Options options;
  options.rate = choice.rate;
  options.patience.cancel = interrupt_flag();
  const bool by_name = i >= choice.videos.size();
  const auto source = by_name ? video::frames_of(choice.frames, options)
                              : value_or_throw(video::open_source(choice.videos[i], options));
  const std::vector<int64_t> seen = frames_to_see(choice, *source, model);
  const bool told = source->fps() > 0;
  std::vector<double> seconds;
  for (const int64_t index : seen) seconds.push_back(static_cast<double>(index) / (told ? source->fps() : choice.fps));
  *facts = {by_name ? choice.frames[0] : choice.videos[i], source->n_frames(), static_cast<int64_t>(seen.size()),
            source->fps()};
  if (const Status ready = source->select(seen); !ready.ok()) throw std::runtime_error(ready.error().message);

  Feed feed{source.get(), {}, ""};
  glimpse_video given = api::video();
  given.n_frames = seen.size();
  given.frame = give_frame;
  given.frame_user = &feed;
  given.seconds = seconds.data();
  given.fps =
      told ? static_cast<double>(seen.size()) / static_cast<double>(source->n_frames()) * source->fps() : choice.fps;
  given.min_pixels = choice.min_pixels;
  given.max_pixels = choice.max_pixels;
  given.max_tokens = choice.max_tokens;
  try {
    return session.encode_video(given, progress);
  } catch (const api::Error&) {
    if (!feed.problem.empty() && !interrupted()) throw std::runtime_error(feed.problem);
    throw;
  }
}

}  // namespace glimpse::cli
