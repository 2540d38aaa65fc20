#include "tools/video/request_video.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <utility>

namespace glimpse::video {
namespace {

// Which frames are seen; tells the video how fast they follow.
Result<std::vector<int64_t>> choose(const Source& source, const Seeing& seeing, RequestVideo& video) {
  const int64_t n = source.n_frames();
  std::vector<int64_t> seen(static_cast<size_t>(n));
  std::iota(seen.begin(), seen.end(), 0);
  video.fps = seeing.sampling.fps;
  if (source.fps() > 0) {
    GLIMPSE_ASSIGN(seen, sample_frames(n, source.fps(), seeing.sampling, seeing.family));
    video.fps = static_cast<double>(seen.size()) / static_cast<double>(n) * source.fps();
  } else if (n > seeing.sampling.max_frames) {
    return make_error(ErrorCode::kTooLarge, "it has %d frames; at most %d are seen where their rate is not told", n,
                      seeing.sampling.max_frames);
  }
  const double rate = source.fps() > 0 ? source.fps() : video.fps;
  video.seconds.clear();
  for (const int64_t index : seen) video.seconds.push_back(static_cast<double>(index) / rate);
  return seen;
}

}  // namespace

Status read_request_video(const std::string& path, const Options& options, const Seeing& seeing, RequestVideo& video) {
  GLIMPSE_ASSIGN(const std::unique_ptr<Source> source, open_source(path, options));
  GLIMPSE_ASSIGN(const std::vector<int64_t> seen, choose(*source, seeing, video));
  GLIMPSE_TRY(source->select(seen));
  DecodeOptions decode;
  decode.limits = options.limits;
  video.frames.clear();
  for (size_t i = 0; i < seen.size(); ++i) {
    GLIMPSE_ASSIGN(Frame frame, source->next());
    if (!frame.path.empty()) {
      GLIMPSE_ASSIGN(frame.image, load_image(frame.path, decode));
    }
    const Image& image = frame.image;
    if (i == 0) {
      GLIMPSE_TRY(seeing.fits(static_cast<uint64_t>(image.pixels.size()) * seen.size()));
    } else if (image.width != video.frames[0].width || image.height != video.frames[0].height) {
      return make_error(ErrorCode::kInvalidArgument, "frame %d has %d x %d pixels, the first %d x %d", i + 1,
                        image.width, image.height, video.frames[0].width, video.frames[0].height);
    }
    video.frames.push_back(std::move(frame.image));
  }
  return {};
}

Result<MemoryFile> MemoryFile::of(std::string_view bytes) {
  const auto failed = [] { return make_error(ErrorCode::kOutOfMemory, "a file in memory: %s", std::strerror(errno)); };
  MemoryFile made(memfd_create("glimpse-video", MFD_CLOEXEC));
  if (made.fd_ < 0) return failed();
  while (!bytes.empty()) {
    const ssize_t n = write(made.fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed();
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return made;
}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

MemoryFile::~MemoryFile() {
  if (fd_ >= 0) close(fd_);
}

std::string MemoryFile::path() const {
  return format("/proc/%d/fd/%d", getpid(), fd_);
}

}  // namespace glimpse::video
