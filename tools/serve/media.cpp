#include "tools/serve/media.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <vector>

#include "tools/serve/api_error.h"
#include "tools/serve/base64.h"
#include "tools/serve/json_body.h"

namespace glimpse::serve {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { reset(-1); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
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

// "%20" and the like; nothing when a percent sign stands for no byte, or for a zero.
std::optional<std::string> percent_decoded(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = digit(text[i + 1]), low = digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
    i += 2;
  }
  if (out.find('\0') != std::string::npos) return std::nullopt;
  return out;
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

Result<std::string> read_regular_file(int fd, uint64_t max_bytes) {
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return no_such_file();
  if (static_cast<uint64_t>(info.st_size) > max_bytes) {
    return make_error(ErrorCode::kTooLarge, "the file has %d bytes; at most %d are allowed", info.st_size, max_bytes);
  }
  std::string bytes(static_cast<size_t>(info.st_size), '\0');
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

}  // namespace

Result<std::string> read_media_file(std::string_view url, const std::string& directory, uint64_t max_bytes) {
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
  const Descriptor file(openat(at.get(), names->back().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.get() < 0) return no_such_file();
  return read_regular_file(file.get(), max_bytes);
}

MediaPicture read_picture(std::string_view url, const MediaPolicy& policy, const std::string& path) {
  auto image = std::make_shared<RequestImage>();
  if (starts_with_word(url, "data:")) {
    image->bytes = bytes_of_data_url(url, path);
  } else if (starts_with_word(url, "file://")) {
    if (policy.directory.empty())
      refuse_field(path, "this server gives no access to files (it has no media directory)");
    Result<std::string> bytes = read_media_file(url, policy.directory, policy.limits.max_bytes);
    if (!bytes.ok()) refuse_field(path, bytes.error().message);
    image->bytes = std::move(bytes).value();
  } else if (starts_with_word(url, "http://") || starts_with_word(url, "https://")) {
    refuse_field(path, "nothing is fetched from the network: send the picture itself, data:image/png;base64,...");
  } else {
    refuse_field(path, "want a URL data:image/png;base64,...");
  }
  if (image->bytes.size() > policy.limits.max_bytes) {
    throw ApiError(413,
                   format("%s: the picture has %d bytes; at most %d are allowed", path, image->bytes.size(),
                          policy.limits.max_bytes),
                   path);
  }
  DecodeOptions options;
  options.limits = policy.limits;
  const auto reader = open_image(std::as_bytes(std::span(image->bytes)), options);
  if (!reader.ok()) refuse_field(path, format("bad picture: %s", reader.error().message));
  const ImageInfo& info = reader.value()->info();
  return {image, info.upright_width(), info.upright_height()};
}

}  // namespace glimpse::serve
