#include "tools/serve/media.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "tools/serve/api_error.h"
#include "tools/serve/base64.h"
#include "tools/serve/http_head.h"
#include "tools/serve/json_body.h"
#include "tools/video/request_video.h"

namespace glimpse::serve {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { reset(-1); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

bool starts_with_word(std::string_view text, std::string_view word) {  // without regard to case
  if (text.size() < word.size()) return false;
  for (size_t i = 0; i < word.size(); ++i) {
    const char c = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i];
    if (c != word[i]) return false;
  }
  return true;
}

// The names between the slashes; nothing when one of them leads upwards.
std::optional<std::vector<std::string>> names_of(std::string_view path) {
  std::vector<std::string> names;
  while (!path.empty()) {
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (name == "..") return std::nullopt;
    if (!name.empty() && name != ".") names.emplace_back(name);
  }
  return names;
}

Error no_such_file() {
  // The same words whatever it is: who asks learns nothing about what else there is.
  return make_error(ErrorCode::kNotFound, "there is no such picture file below the server's media directory");
}

ApiError busy(const std::string& path, const char* what) {
  ApiError error(429, format("%s: %s", path, what), path, "queue_full");
  error.retry_after_s = 1;
  return error;
}

/// A picture, and the part of the budget that its file takes.
struct BudgetedImage : RequestImage {
  BudgetShare file;
};

Result<std::string> read_regular_file(int fd, const MediaPolicy& policy, const std::string& path, BudgetShare& share) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return no_such_file();
  const auto size = static_cast<uint64_t>(info.st_size);
  const uint64_t most = std::min(policy.limits.max_bytes, policy.files->n_bytes());
  if (size > most) {
    return make_error(ErrorCode::kTooLarge, "the file has %d bytes; at most %d are allowed", size, most);
  }
  if (!share.take(policy.files, size))
    throw busy(path, "the memory for files of pictures is in use: try again, or with fewer");
  std::string bytes(static_cast<size_t>(size), '\0');
  size_t n = 0;
  while (n < bytes.size()) {
    const ssize_t got = read(fd, bytes.data() + n, bytes.size() - n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return make_error(ErrorCode::kIo, "the picture file cannot be read");
    if (got == 0) break;
    n += static_cast<size_t>(got);
  }
  bytes.resize(n);
  return bytes;
}

// "data:image/png;base64,..."
std::string bytes_of_data_url(std::string_view url, const std::string& path) {
  const size_t comma = url.find(',');
  if (comma == std::string_view::npos)
    refuse_field(path, "a data: URL without a comma: want data:image/png;base64,...");
  const std::string_view head = url.substr(0, comma);
  if (head.size() < 7 || !starts_with_word(head.substr(head.size() - 7), ";base64")) {
    refuse_field(path, "a data: URL that is not base64: want data:image/png;base64,...");
  }
  size_t bad = 0;
  std::optional<std::string> bytes = decode_base64(url.substr(comma + 1), &bad);
  if (!bytes) refuse_field(path, format("bad base64 at byte %d of the URL", comma + 1 + bad));
  return std::move(*bytes);
}

// What a file:// URL names: a regular file below the directory, reached through no symbolic link and no "..".
// "file:///cat.png", "file://cat.png" and, with its absolute path, "file:///media/cat.png" are the same file of /media.
Result<Descriptor> open_media_file(std::string_view url, const std::string& directory) {
  url.remove_prefix(std::string_view("file://").size());
  if (starts_with_word(url, "localhost/")) url.remove_prefix(9);
  const std::optional<std::string> path = percent_decoded(url);
  if (!path) return make_error(ErrorCode::kInvalidArgument, "a file:// URL with a bad %%-escape");
  std::string_view below = *path;
  if (below.substr(0, directory.size()) == directory && below.size() > directory.size() &&
      (below[directory.size()] == '/' || directory == "/")) {
    below.remove_prefix(directory.size());
  }
  const auto names = names_of(below);
  if (!names || names->empty()) return no_such_file();
  Descriptor at(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (at.get() < 0) return no_such_file();
  for (size_t i = 0; i + 1 < names->size(); ++i) {
    at.reset(openat(at.get(), (*names)[i].c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (at.get() < 0) return no_such_file();
  }
  // Not blocking: a named pipe would wait for its writer.
  Descriptor file(openat(at.get(), names->back().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  if (file.get() < 0 || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return no_such_file();
  return file;
}

void check_bytes(size_t n, const MediaPolicy& policy, const std::string& path) {
  if (n <= policy.limits.max_bytes) return;
  throw ApiError(413, format("%s: the picture has %d bytes; at most %d are allowed", path, n, policy.limits.max_bytes),
                 path);
}

// What a URL is, without regard to case.
enum class Scheme { kData, kFile };
Scheme scheme_of(std::string_view url, const MediaPolicy& policy, const char* example, const std::string& path) {
  if (starts_with_word(url, "data:")) return Scheme::kData;
  if (starts_with_word(url, "file://")) {
    if (!policy.directory.empty()) return Scheme::kFile;
    refuse_field(path, "this server gives no access to files (it has no media directory)");
  }
  if (starts_with_word(url, "http://") || starts_with_word(url, "https://")) {
    refuse_field(path, format("nothing is fetched from the network: send the bytes themselves, %s", example));
  }
  refuse_field(path, format("want a URL %s", example));
}

}  // namespace

MediaPicture read_picture(std::string_view url, const MediaPolicy& policy, const std::string& path) {
  auto image = std::make_shared<BudgetedImage>();
  if (scheme_of(url, policy, "data:image/png;base64,...", path) == Scheme::kData) {
    image->bytes = bytes_of_data_url(url, path);
  } else {
    const Result<Descriptor> file = open_media_file(url, policy.directory);
    if (!file.ok()) refuse_field(path, file.error().message);
    Result<std::string> bytes = read_regular_file(file.value().get(), policy, path, image->file);
    if (!bytes.ok()) refuse_field(path, bytes.error().message);
    image->bytes = std::move(bytes).value();
  }
  check_bytes(image->bytes.size(), policy, path);
  DecodeOptions options;
  options.limits = policy.limits;
  const auto reader = open_image(std::as_bytes(std::span(image->bytes)), options);
  if (!reader.ok()) refuse_field(path, format("bad picture: %s", reader.error().message));
  const ImageInfo& info = reader.value()->info();
  return {image, info.upright_width(), info.upright_height()};
}

// -- videos ---------------------------------------------------------------------------------------------------------

namespace {

/// Frames, and the part of the budget that they take.
struct BudgetedVideo : RequestVideo {
  BudgetShare memory;
};

/// To read a video may take a program of its own, and a processor: only so many do at once.
class Turn {
 public:
  Turn(const VideoPolicy& policy, const std::string& path) : readers_(policy.readers) {
    if (!readers_->try_acquire_for(policy.turn)) throw busy(path, "the videos of others are being read");
  }
  ~Turn() { readers_->release(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const std::shared_ptr<std::counting_semaphore<>> readers_;
};

void reserve(uint64_t n, const VideoPolicy& policy, const std::string& path, BudgetedVideo& video) {
  if (n > policy.memory->n_bytes()) {
    refuse_field(path, format("the frames of the video that would be seen have %d bytes; at most %d are allowed: fewer "
                              "(fps), or smaller ones",
                              n, policy.memory->n_bytes()));
  }
  if (!video.memory.take(policy.memory, n)) throw busy(path, "the memory for frames of videos is in use");
}

// data:video/jpeg;base64,A,B,...: the frames themselves, as vLLM's clients send them.
void read_frame_list(std::string_view url, const MediaPolicy& policy, const std::string& path, BudgetedVideo& video) {
  const size_t comma = std::min(url.find(','), url.size() - 1);
  const std::string head(url.substr(0, comma + 1));
  DecodeOptions options;
  options.limits = policy.limits;
  std::vector<std::string_view> pieces;
  const auto n_frames = static_cast<int64_t>(std::count(url.begin() + static_cast<ptrdiff_t>(comma), url.end(), ','));
  if (n_frames > policy.video.sampling.max_frames) {
    refuse_field(path,
                 format("the video has %d frames; at most %d are seen", n_frames, policy.video.sampling.max_frames));
  }
  for (size_t at = comma + 1; at <= url.size();) {
    const size_t end = std::min(url.find(',', at), url.size());
    pieces.push_back(url.substr(at, end - at));
    at = end + 1;
  }
  const Turn turn(policy.video, path);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::string bytes = bytes_of_data_url(head + std::string(pieces[i]), path);
    check_bytes(bytes.size(), policy, path);
    const auto bad_frame = [&](const Error& error) {
      refuse_field(path, format("frame %d: %s", i + 1, error.message));
    };
    const auto reader = open_image(std::as_bytes(std::span(bytes)), options);
    if (!reader.ok()) bad_frame(reader.error());
    // By what its header says: a frame of a few bytes may be hundreds of megabytes large.
    const ImageInfo& info = reader.value()->info();
    if (i == 0) {
      reserve(3 * static_cast<uint64_t>(info.width) * static_cast<uint64_t>(info.height) * pieces.size(), policy.video,
              path, video);
    } else if (info.upright_width() != video.frames[0].width || info.upright_height() != video.frames[0].height) {
      refuse_field(path, format("frame %d has another size than the first", i + 1));
    }
    Result<Image> image = read_image(*reader.value());
    if (!image.ok()) bad_frame(image.error());
    video.frames.push_back(std::move(image).value());
  }
}

// An animation or a film.
void read_film(const video::MemoryFile& file, const MediaPolicy& policy, const VideoSampling& sampling,
               VisionConfig::Family family, const std::string& path, BudgetedVideo& video) {
  video::Options options;
  options.limits = policy.limits;
  options.limits.max_bytes = UINT64_MAX;  // they are here
  options.patience = policy.video.patience;
  options.ffmpeg = policy.video.ffmpeg;
  options.ffprobe = policy.video.ffprobe;
  const Turn turn(policy.video, path);
  const auto fits = [&](uint64_t n) -> Status {
    reserve(n, policy.video, path, video);
    return {};
  };
  const Status read = video::read_request_video(file.path(), options, {sampling, family, fits}, video);
  if (read.ok()) return;
  if (read.error().code == ErrorCode::kCancelled) throw api_error(read.error());
  std::string said = read.error().message;
  for (const std::string& name : {"file:" + file.path(), file.path()}) {  // of which the client knows nothing
    for (size_t at = 0; (at = said.find(name, at)) != std::string::npos;) said.replace(at, name.size(), "it");
  }
  refuse_field(path, format("bad video: %s", said));
}

}  // namespace

MediaPicture read_video(std::string_view url, const MediaPolicy& policy, double fps, VisionConfig::Family family,
                        const std::string& path) {
  VideoSampling sampling = policy.video.sampling;
  if (fps > 0) sampling.fps = fps;
  const auto video = std::make_shared<BudgetedVideo>();
  video->fps = sampling.fps;
  video->limits = policy.video.limits;
  if (scheme_of(url, policy, "data:video/mp4;base64,...", path) == Scheme::kFile) {
    Result<Descriptor> file = open_media_file(url, policy.directory);
    if (!file.ok()) refuse_field(path, file.error().message);
    read_film(video::MemoryFile(file.value().release()), policy, sampling, family, path, *video);
  } else if (starts_with_word(url, "data:video/jpeg;")) {
    read_frame_list(url, policy, path, *video);
  } else {
    const auto file = video::MemoryFile::of(bytes_of_data_url(url, path));
    if (!file.ok()) throw ApiError(503, format("%s: %s", path, file.error().message), path);
    read_film(file.value(), policy, sampling, family, path, *video);
  }
  const Image& first = video->frames.at(0);
  const auto image = std::make_shared<RequestImage>();
  image->video = video;
  return {image, first.width, first.height};
}

}  // namespace glimpse::serve
