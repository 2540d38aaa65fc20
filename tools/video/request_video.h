// Videos of requests to the engine: the frames that are to be seen, read ahead of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/function_ref.h"
#include "engine/serve/engine.h"
#include "tools/video/source.h"

namespace glimpse::video {

struct Seeing {
  VideoSampling sampling;
  VisionConfig::Family family = VisionConfig::Family::kQwen2;  // of the model's encoder
  /// Asked with the bytes of all frames when the first has been read.
  FunctionRef<Status(uint64_t n_bytes)> fits;
};

/// What open_source() takes, into video.frames, seconds and fps; where its rate is not told all frames are seen, as if
/// there were sampling.fps of them in a second. Errors: kTooLarge (they are more than sampling.max_frames),
/// kInvalidArgument (frames of different sizes), those of `fits`, of open_source() and of what reads frames.
Status read_request_video(const std::string& path, const Options& options, const Seeing& seeing, RequestVideo& video);

/// Bytes as a file without a name: what was never on a disk, for those who open files.
class MemoryFile {
 public:
  static Result<MemoryFile> of(std::string_view bytes);
  /// fd: becomes the file's.
  explicit MemoryFile(int fd) : fd_(fd) {}
  ~MemoryFile();
  MemoryFile(MemoryFile&& other) noexcept;
  MemoryFile& operator=(MemoryFile&&) = delete;
  /// By which other programs of the same user find it, while it lives.
  std::string path() const;

 private:
  int fd_;
};

}  // namespace glimpse::video
