// A forward reader over a file (through a buffer) or over memory, with bounds known before anything is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/result.h"

namespace glimpse {

/// Reads little-endian values one after the other. A vocabulary of 150 000 strings costs a handful of system calls.
/// The file or span must outlive the reader.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes);
  explicit ByteReader(const File& file);

  uint64_t size() const { return size_; }
  /// Bytes consumed so far.
  uint64_t position() const { return window_end_ - left_in_window(); }
  /// Bytes between the position and the end of the file.
  uint64_t remaining() const { return size_ - position(); }

  /// The next n bytes. Errors: kTruncated when fewer remain, kIo.
  Status read(void* out, size_t n);

  /// The next value of an arithmetic type.
  template <typename T>
  Result<T> read_value() {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    GLIMPSE_TRY(read(&value, sizeof value));
    return value;
  }

 private:
  uint64_t left_in_window() const { return static_cast<uint64_t>(stop_ - cursor_); }
  Status refill();

  const File* file_ = nullptr;  // nullptr: the window is all there is
  uint64_t size_ = 0;
  uint64_t window_end_ = 0;  // offset in the file of the byte after the window
  const std::byte* cursor_ = nullptr;
  const std::byte* stop_ = nullptr;
  std::vector<std::byte> buffer_;
};

}  // namespace glimpse
