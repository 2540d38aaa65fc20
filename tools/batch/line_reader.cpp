#include "tools/batch/line_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace glimpse::batch {

StopSignal::StopSignal() {
  if (pipe2(ends_, O_CLOEXEC | O_NONBLOCK) != 0) ends_[0] = ends_[1] = -1;  // then readers look twice a second
}
StopSignal::~StopSignal() {
  for (const int end : ends_) {
    if (end >= 0) close(end);
  }
}
void StopSignal::raise() {
  raised_ = true;
  if (ends_[1] >= 0 && write(ends_[1], "", 1) < 0) errno = 0;  // it is full: they are awake
}
bool StopSignal::wait_for(int descriptor) const {
  while (!raised()) {
    pollfd waiting[2] = {{descriptor, POLLIN, 0}, {ends_[0], POLLIN, 0}};
    const int n = poll(waiting, 2, ends_[0] >= 0 ? -1 : 500);
    if (n < 0 && errno != EINTR) return true;  // a descriptor that cannot be waited for: reading will say
    if (n > 0 && waiting[1].revents == 0) return true;
  }
  return false;
}

Result<std::unique_ptr<LineReader>> LineReader::open(const std::string& path, const StopSignal* stop) {
  std::unique_ptr<LineReader> reader(new LineReader);
  reader->stop_ = stop;
  reader->name_ = path == "-" ? "standard input" : path;
  reader->owned_ = path != "-";
  reader->descriptor_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info {};
  if (reader->descriptor_ < 0 || fstat(reader->descriptor_, &info) != 0) {
    return make_error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot open %s: %s", reader->name_,
                      std::strerror(errno));
  }
  if (S_ISDIR(info.st_mode)) return make_error(ErrorCode::kIo, "%s is a folder", reader->name_);
  if (S_ISREG(info.st_mode)) reader->size_ = static_cast<uint64_t>(info.st_size);
  return reader;
}

std::unique_ptr<LineReader> LineReader::of_text(std::string text) {
  std::unique_ptr<LineReader> reader(new LineReader);
  reader->name_ = "text";
  reader->size_ = reader->n_read_ = text.size();
  reader->buffer_ = std::move(text);
  reader->ended_ = true;
  return reader;
}

LineReader::~LineReader() {
  if (owned_ && descriptor_ >= 0) close(descriptor_);
}

// More bytes behind what the buffer has; false at the end.
Result<bool> LineReader::fill() {
  constexpr size_t kPiece = size_t{1} << 16;
  if (ended_) return false;
  if (at_ > 0) buffer_.erase(0, at_);
  at_ = 0;
  if (stop_ != nullptr && !stop_->wait_for(descriptor_)) {
    buffer_.clear();
    ended_ = stopped_ = true;
    return false;
  }
  const size_t before = buffer_.size();
  buffer_.resize(before + kPiece);
  ssize_t n = -1;
  do {
    n = read(descriptor_, buffer_.data() + before, kPiece);
  } while (n < 0 && errno == EINTR);
  buffer_.resize(before + static_cast<size_t>(n > 0 ? n : 0));
  if (n < 0) return make_error(ErrorCode::kIo, "cannot read %s: %s", name_, std::strerror(errno));
  n_read_ += static_cast<uint64_t>(n);
  ended_ = n == 0;
  return n > 0;
}

Result<bool> LineReader::next(std::string& line, bool& cut) {
  line.clear();
  cut = false;
  for (;;) {
    const size_t end = buffer_.find('\n', at_);
    const size_t n = (end == std::string::npos ? buffer_.size() : end + 1) - at_;
    const size_t room = kMaxLineBytes - std::min(kMaxLineBytes, line.size());
    cut = cut || n > room;
    line.append(buffer_, at_, std::min(n, room));
    at_ += n;
    if (end != std::string::npos) break;
    GLIMPSE_ASSIGN(const bool more, fill());
    if (!more) break;
  }
  if (stopped_) line.clear();  // what was begun is no line: whoever resumes reads it again
  if (line.empty()) return false;
  if (n_lines_++ == 0 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
  return true;
}

void LineReader::put_back(const std::string& line) {
  buffer_.replace(0, at_, line);
  at_ = 0;
  --n_lines_;
}

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace glimpse::batch
