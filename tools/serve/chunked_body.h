// A body whose length is not told before: it comes in chunks (RFC 9112, section 7.1).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace glimpse::serve {

/// Puts it together. Lines end with CR LF and nothing else; extensions of chunks and trailers are read over.
class ChunkedBody {
 public:
  /// most: bytes of the body.
  explicit ChunkedBody(uint64_t most) : most_(most) {}
  /// What came of it, in pieces of any size. True: it is whole; what comes behind it is dropped. Throws ApiError 400,
  /// or 413 as soon as a chunk says so.
  bool push(std::string_view bytes);
  /// Of a whole one; leaves none.
  std::string take() { return std::move(body_); }

 private:
  enum class State { kSize, kData, kDataEnd, kTrailer, kDone };
  void take_line(std::string_view line);

  const uint64_t most_;
  State state_ = State::kSize;
  uint64_t left_ = 0;   // of the chunk
  size_t n_lines_ = 0;  // bytes of extensions and trailers
  std::string line_, body_;
};

}  // namespace glimpse::serve
