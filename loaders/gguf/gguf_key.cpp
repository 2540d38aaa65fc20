// GgufFile::content_key(): tells two models apart without reading them.
#include <algorithm>
#include <array>

#include "engine/base/hash.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {
namespace {

constexpr uint64_t kPiece = uint64_t{1} << 18;  // of the header, per read
constexpr uint64_t kSample = 4096, kSamples = 256;

Status add_range(const File& file, uint64_t first, uint64_t end, std::vector<std::byte>& buffer, Hash64& hash) {
  while (first < end) {
    buffer.resize(static_cast<size_t>(std::min(kPiece, end - first)));
    GLIMPSE_TRY(file.read_at(first, buffer));
    hash.add(buffer);
    first += buffer.size();
  }
  return {};
}

}  // namespace

Result<uint64_t> GgufFile::content_key() const {
  if (files_.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "%s is no file: it has no content key", path_);
  }
  Hash64 hash;
  std::vector<std::byte> buffer;
  for (size_t i = 0; i < shards_.size(); ++i) {
    const GgufShard& shard = shards_[i];
    const File& file = files_[i];
    hash.add(shard.n_bytes);
    hash.add(static_cast<uint64_t>(file.modified_ns()));
    GLIMPSE_TRY(add_range(file, 0, std::min(shard.data_start, shard.n_bytes), buffer, hash));
    const uint64_t start = std::min(shard.data_start, shard.n_bytes), n_data = shard.n_bytes - start;
    if (n_data <= kSample * kSamples) {
      GLIMPSE_TRY(add_range(file, start, shard.n_bytes, buffer, hash));
      continue;
    }
    for (uint64_t s = 0; s < kSamples; ++s) {  // evenly from the first byte to the last
      const uint64_t at = start + (n_data - kSample) * s / (kSamples - 1);
      GLIMPSE_TRY(add_range(file, at, at + kSample, buffer, hash));
    }
  }
  return hash.value();
}

}  // namespace glimpse
