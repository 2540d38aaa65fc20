// Rows for the decoder: tokens, and rows of pictures among them, each with its position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/model/image_embedding.h"
#include "engine/model/positions.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

/// What a pass takes, made by PassInput.
struct PassRows {
  /// The id of a row of a picture. Nobody but PassInput and the decoder needs to know it.
  static constexpr TokenId kPicture = -1;
  std::span<const TokenId> ids;
  std::span<const MropePosition> positions;  // one per id
  std::span<const float> embeddings;         // (rows of kPicture, embedding_width), in order
};

/// Where a picture, or some slices of a video, stand among ids: pad tokens from there on, one per row of the embedding.
struct PicturePlace {
  int64_t position = 0;
  const ImageEmbedding* picture = nullptr;  // outlives the input
  int64_t first_slice = 0, n_slices = 0;    // 0: all

  int64_t n_tokens() const { return n_slices == 0 ? picture->n_tokens : n_slices * picture->tokens_per_slice(); }
};

/// Puts ids, positions and the rows of pictures together, for a conversation, a tool or a test alike.
class PassInput {
 public:
  /// next_position: of the first row; cache slot and position differ once a picture is in the cache.
  explicit PassInput(int32_t next_position = 0) { counter_.set_next(next_position); }

  void append_text(std::span<const TokenId> ids);
  void append_picture(const ImageEmbedding& picture) { append_place({0, &picture}); }
  /// What follows stands n positions further.
  void skip_positions(int32_t n) { counter_.set_next(counter_.next() + n); }
  /// ids with the pictures in place of their pads. Errors: kInternal, a picture whose place is not within ids or
  /// before the end of the one before; nothing was appended then.
  Status append(std::span<const TokenId> ids, std::span<const PicturePlace> places);

  int64_t n_rows() const { return static_cast<int64_t>(ids_.size()); }
  /// After the last row.
  int32_t next_position() const { return counter_.next(); }
  /// PositionCounter::greatest() of the rows.
  int32_t greatest_position() const { return counter_.greatest(); }
  /// Valid until the next append.
  PassRows rows() const { return {ids_, positions_, several_ ? std::span<const float>(joined_) : single_}; }

 private:
  void append_place(const PicturePlace& place);

  std::vector<TokenId> ids_;
  std::vector<MropePosition> positions_;
  PositionCounter counter_;
  std::span<const float> single_;  // where all rows so far are neighbours; else they are put together
  std::vector<float> joined_;
  bool several_ = false;
};

}  // namespace glimpse
