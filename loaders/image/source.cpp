#include "loaders/image/source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/base/file.h"
#include "loaders/image/decoder.h"

namespace glimpse {
namespace {

Error io_error(const char* action, const std::string& path, int code) {
  char text[128] = "";
  const char* reason = strerror_r(code, text, sizeof text);  // the GNU form returns the text
  return make_error(ErrorCode::kIo, "cannot %s %s: %s", action, path, reason);
}

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

// Enough for every signature that sniff_format() knows.
constexpr size_t kSniffBytes = 512, kPieceBytes = size_t{1} << 18;

Result<std::vector<std::byte>> read_pipe(const std::string& path, const DecodeOptions& options) {
  const Descriptor pipe(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (pipe.number() < 0) return io_error("open", path, errno);
  // What has been read is copied when the buffer grows by half: up to 2.5 times as much is held for a moment.
  const uint64_t limit = std::min(options.limits.max_bytes, options.limits.max_memory / 5 * 2);
  std::vector<std::byte> bytes;
  size_t n = 0;
  bool sniffed = false;
  while (true) {
    if (bytes.size() - n < kPieceBytes) {
      bytes.resize(std::min<size_t>(std::max(n + kPieceBytes, n + n / 2), limit + 1));
    }
    const ssize_t got = read(pipe.number(), bytes.data() + n, bytes.size() - n);
    if (got < 0 && errno != EINTR) return io_error("read", path, errno);
    if (options.progress && !options.progress("read image", 0)) {
      return make_error(ErrorCode::kCancelled, "cancelled while %s was read", path);
    }
    if (got == 0) break;
    if (got > 0) n += static_cast<size_t>(got);
    if (n > limit) {
      return make_error(ErrorCode::kTooLarge, "%s: more than %d bytes come from it; that is the limit", path, limit);
    }
    if (!sniffed && n >= kSniffBytes) {
      const auto format = sniff_format(std::span(bytes).first(n));
      if (!format.ok()) return with_context(format.error(), path);
      sniffed = true;
    }
  }
  bytes.resize(n);
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> read_picture_file(const std::string& path, const DecodeOptions& options) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode))) {
    return read_pipe(path, options);
  }
  return read_file(path, std::min(options.limits.max_bytes, options.limits.max_memory));
}

}  // namespace glimpse
