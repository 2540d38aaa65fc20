// Where the pictures and videos of requests come from: data: URLs, and files under one directory. Nothing is ever
// fetched.
#pragma once

#include <chrono>
#include <memory>
#include <semaphore>
#include <string>
#include <string_view>

#include "engine/generate/video.h"
#include "engine/serve/engine.h"
#include "loaders/image/image.h"
#include "tools/serve/memory_budget.h"
#include "tools/video/program.h"

namespace glimpse::serve {

struct VideoPolicy {
  VideoSampling sampling{2, 4, 64};  // where requests do not say how many frames a second they mean
  VideoLimits limits;                // of the resized frames
  /// For the frames of all videos that are being answered.
  std::shared_ptr<MemoryBudget> memory = std::make_shared<MemoryBudget>(uint64_t{512} << 20);
  video::Patience patience{20, 60, nullptr};  // with the programs
  /// So many videos are read at once; others wait for their turn, so long.
  std::shared_ptr<std::counting_semaphore<>> readers = std::make_shared<std::counting_semaphore<>>(2);
  std::chrono::milliseconds turn{30000};
  std::string ffmpeg = "ffmpeg", ffprobe = "ffprobe";
};

struct MediaPolicy {
  std::string directory;  // of file:// URLs; "": there are none
  ImageLimits limits;
  size_t max_pictures = 64;  // of one request, videos with them
  /// For the files of all pictures that are being answered.
  std::shared_ptr<MemoryBudget> files = std::make_shared<MemoryBudget>(uint64_t{256} << 20);
  VideoPolicy video;
};

struct MediaPicture {
  std::shared_ptr<const RequestImage> image;
  int64_t width = 0, height = 0;  // upright
};

/// The picture behind a URL, its header looked at. path: of the field, for the error. Throws ApiError 400: another kind
/// of URL, bad base64, no picture, a limit; 413 for more bytes than the limit.
MediaPicture read_picture(std::string_view url, const MediaPolicy& policy, const std::string& path);

/// The video behind a URL, its frames read: an animated GIF or WebP, a film that the ffmpeg program reads, or, as
/// data:video/jpeg;base64,A,B,..., the frames themselves. fps: frames to see in a second; 0: as the policy says.
/// family: of the model's encoder, which decides what frames are seen. Throws ApiError as read_picture(), 429 when the
/// memory for frames is in use.
MediaPicture read_video(std::string_view url, const MediaPolicy& policy, double fps, VisionConfig::Family family,
                        const std::string& path);

}  // namespace glimpse::serve
