#include "loaders/gguf/byte_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace glimpse {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read in the byte order of the host");

// Large enough that a system call per refill does not matter, small enough to stay in the L2 cache.
constexpr uint64_t kBufferBytes = uint64_t{256} << 10;

}  // namespace

ByteReader::ByteReader(std::span<const std::byte> bytes)
    : size_(bytes.size()), window_end_(bytes.size()), cursor_(bytes.data()), stop_(bytes.data() + bytes.size()) {}

ByteReader::ByteReader(const File& file)
    : file_(&file), size_(file.size()), buffer_(std::min(kBufferBytes, file.size())) {
  cursor_ = stop_ = buffer_.data();
}

Status ByteReader::refill() {
  const uint64_t n = std::min<uint64_t>(buffer_.size(), size_ - window_end_);
  cursor_ = stop_ = buffer_.data();
  GLIMPSE_TRY(file_->read_at(window_end_, std::span(buffer_.data(), n)));
  stop_ = cursor_ + n;
  window_end_ += n;
  return {};
}

Status ByteReader::read(void* out, size_t n) {
  if (n > remaining()) {
    return make_error(ErrorCode::kTruncated, "%d bytes are needed at offset %d, but the file ends after %d bytes", n,
                      position(), size_);
  }
  auto* target = static_cast<std::byte*>(out);
  while (n > 0) {
    if (cursor_ == stop_) GLIMPSE_TRY(refill());
    const size_t piece = std::min<size_t>(n, left_in_window());
    std::memcpy(target, cursor_, piece);
    cursor_ += piece;
    target += piece;
    n -= piece;
  }
  return {};
}

}  // namespace glimpse
