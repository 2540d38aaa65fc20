// A picture as the decoder takes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/preprocess/preprocess.h"

namespace glimpse {

/// What the vision encoder makes of a picture: rows that stand in for token embeddings. Independent of the text around
/// it: cacheable, savable.
struct ImageEmbedding {
  GridThw grid;  // patches, unmerged
  int64_t merge_size = 2;
  int64_t n_tokens = 0;       // grid.t * grid.h * grid.w / merge_size^2
  int64_t width = 0;          // the decoder's hidden_size
  ImageSize original;         // pixels of the picture as given (upright); the caller sets it
  ImageSize resized;          // pixels that the encoder saw
  uint64_t fingerprint = 0;   // of the encoder that made it: Model::vision_fingerprint()
  std::vector<float> values;  // (n_tokens, width)
};

/// Bytes in a versioned little-endian format (magic "GLIE") with a checksum, and back. Errors of load: kCorrupt,
/// kTruncated, kUnsupported (another version).
std::vector<std::byte> save_embedding(const ImageEmbedding& embedding);
Result<ImageEmbedding> load_embedding(std::span<const std::byte> bytes);
/// Writes the checksum into bytes that save_embedding() gave and that were changed since.
void seal_embedding(std::span<std::byte> bytes);

}  // namespace glimpse
