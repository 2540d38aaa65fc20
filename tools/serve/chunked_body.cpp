#include "tools/serve/chunked_body.h"

#include <algorithm>
#include <charconv>

#include "engine/base/format.h"
#include "tools/serve/api_error.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostLineBytes = 1 << 10;
constexpr size_t kMostTrailerBytes = 16 << 10;
constexpr size_t kMostDigits = 15;  // of a size

[[noreturn]] void malformed(const char* what) {
  throw ApiError(400, format("malformed HTTP: %s", what));
}

// "1a3" or "1a3;name=value"
uint64_t size_of_chunk(std::string_view line) {
  const std::string_view digits = line.substr(0, line.find(';'));
  uint64_t size = 0;
  const char* const end = digits.data() + digits.size();
  const auto [at, problem] = std::from_chars(digits.data(), end, size, 16);
  if (digits.empty() || digits.size() > kMostDigits || problem != std::errc() || at != end) {
    malformed("the size of a chunk");
  }
  return size;
}

}  // namespace

bool ChunkedBody::push(std::string_view bytes) {
  while (!bytes.empty() && state_ != State::kDone) {
    if (state_ == State::kData) {
      const auto n = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
      body_.append(bytes.substr(0, n));
      bytes.remove_prefix(n);
      left_ -= n;
      if (left_ == 0) state_ = State::kDataEnd;
      continue;
    }
    const char c = bytes.front();
    bytes.remove_prefix(1);
    if (c != '\n') {
      line_ += c;
      if (line_.size() > kMostLineBytes) malformed("a line between chunks is too long");
      continue;
    }
    if (line_.empty() || line_.back() != '\r') malformed("a line without CR LF");
    line_.pop_back();
    take_line(line_);
    line_.clear();
  }
  return state_ == State::kDone;
}

void ChunkedBody::take_line(std::string_view line) {
  if (line.find('\r') != std::string_view::npos) malformed("a control character");
  switch (state_) {
    case State::kSize:
      left_ = size_of_chunk(line);
      if (left_ > most_ - body_.size()) {
        throw ApiError(413, format("the body has more than %d bytes: no more are allowed", most_));
      }
      state_ = left_ == 0 ? State::kTrailer : State::kData;
      break;
    case State::kDataEnd:
      if (!line.empty()) malformed("bytes behind a chunk");
      state_ = State::kSize;
      break;
    default:
      if (line.empty()) state_ = State::kDone;
  }
  n_lines_ += line.size();
  // A byte in a chunk of its own, with its size, is common enough; more is not.
  if (n_lines_ > kMostTrailerBytes + 8 * body_.size()) malformed("more between chunks than in them");
}

}  // namespace glimpse::serve
