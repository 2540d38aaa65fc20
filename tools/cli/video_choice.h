// The options of videos, and their frames to a session.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/include/glimpse/glimpse.hpp"

namespace glimpse::cli {

struct VideoChoice {
  std::vector<std::string> videos, frames;  // films, animations and folders; pictures that are a video together
  double fps = 2, rate = 0;
  int32_t min_frames = 4, max_frames = 768, max_tokens = 0;
  int64_t min_pixels = 0, max_pixels = 0;

  size_t n_videos() const { return videos.size() + (frames.empty() ? 0 : 1); }
};
/// Which videos, and the next.
void add_video_options(CLI::App& command, VideoChoice& choice);
/// Which of their frames are seen, and how large.
void add_seeing_options(CLI::App& command, VideoChoice& choice);
/// How fast frames follow that are files.
void add_frame_rate_option(CLI::App& command, VideoChoice& choice);

/// What a video was and became.
struct VideoFacts {
  std::string path;  // of --frame: the first
  int64_t n_frames = 0, n_seen = 0;
  double fps = 0;  // of the source; 0: not told
};
/// Video i of n_videos(), read and encoded. Throws std::runtime_error and api::Error.
api::Embedding encode_video(const VideoChoice& choice, size_t i, const api::Model& model, api::Session& session,
                            const api::Progress& progress, VideoFacts* facts);

}  // namespace glimpse::cli
