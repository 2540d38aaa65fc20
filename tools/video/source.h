// Where the frames of a video come from: a folder of pictures, pictures by name, an animated GIF or WebP, or a film
// that the ffmpeg program reads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "loaders/image/image.h"
#include "tools/video/program.h"

namespace glimpse::video {

struct Options {
  double rate = 0;     // frames per second that pictures were taken at; 0: not told, and all of them are to be seen
  ImageLimits limits;  // of each frame
  Patience patience;   // with the programs
  std::string ffmpeg = "ffmpeg", ffprobe = "ffprobe";
};

/// A file, or pixels.
struct Frame {
  std::string path;
  Image image;
};

class Source {
 public:
  virtual ~Source() = default;
  int64_t n_frames() const { return n_frames_; }
  /// 0: not told.
  double fps() const { return fps_; }
  /// Which frames next() gives, ascending. Called once, before it.
  virtual Status select(const std::vector<int64_t>& indices) = 0;
  /// Errors: kTruncated (fewer frames come than were promised); those of what reads them.
  virtual Result<Frame> next() = 0;

 protected:
  int64_t n_frames_ = 0;
  double fps_ = 0;
};

/// Errors: kNotFound, kIo, kInvalidArgument (a folder without pictures); kUnsupported says that ffmpeg is missing and
/// what else can be done; kCancelled.
Result<std::unique_ptr<Source>> open_source(const std::string& path, const Options& options);
/// The pictures of these files. Precondition: there is one.
std::unique_ptr<Source> frames_of(std::vector<std::string> paths, const Options& options);

/// Names of pictures in a folder, in the order of the numbers in them: "frame 9.png" before "frame 10.png".
Result<std::vector<std::string>> pictures_in(const std::string& folder);

}  // namespace glimpse::video
