// A picture or a video as the decoder takes it.
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
  int64_t n_tokens = 0;       // grid.t * grid.h * grid.w / merge_size^2, or as many as cells
  int64_t width = 0;          // the decoder's hidden_size
  ImageSize original;         // pixels of the picture as given (upright); the caller sets it
  ImageSize resized;          // pixels that the encoder saw
  uint64_t fingerprint = 0;   // of the encoder that made it: Model::vision_fingerprint()
  std::vector<float> values;  // (n_tokens, width)
  // Of a video, whose grid.t slices are pairs of frames.
  bool is_video = false;
  float slice_step = 1;               // time positions from one slice to the next
  std::vector<double> slice_seconds;  // Qwen3-VL: when each slice is, told in text before it; empty: one block
  // Of a still picture whose repeated cells were left out (leave_out_repeated_cells()): those that are there.
  std::vector<int32_t> cells;

  int64_t tokens_per_slice() const { return n_tokens / grid.t; }
};

/// Whether cells are some of a merged grid's n_cells, ascending, each once and not all; none: all of them are there.
bool are_cells(std::span<const int32_t> cells, int64_t n_cells);
/// That a video's times are finite, in their range, and as many as it has slices. Errors: kCorrupt.
Status check_video_times(const ImageEmbedding& embedding);

/// Bytes in a versioned little-endian format (magic "GLIE") with a checksum, and back. Errors of load: kCorrupt,
/// kTruncated, kUnsupported (another version).
std::vector<std::byte> save_embedding(const ImageEmbedding& embedding);
Result<ImageEmbedding> load_embedding(std::span<const std::byte> bytes);
/// Writes the checksum into bytes that save_embedding() gave and that were changed since.
void seal_embedding(std::span<std::byte> bytes);

}  // namespace glimpse
