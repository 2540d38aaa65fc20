// M-RoPE position ids (get_rope_index in transformers), and the vision encoder's rotation table.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/windows.h"
#include "engine/preprocess/preprocess.h"

namespace glimpse {

/// The temporal, height and width position of one token; equal for text.
struct MropePosition {
  int32_t t = 0, h = 0, w = 0;
  bool operator==(const MropePosition&) const = default;
};

/// No position is beyond it: who gives a video whose time runs further is refused.
inline constexpr int32_t kMostPosition = 1 << 30;

/// Hands out positions in the order that tokens enter the cache. Cache slot and rope position differ once a picture is
/// in the context: a picture advances the position by max(h, w) of its merged grid, not by its number of tokens, and so
/// does a video, whose time may then be ahead of what follows it.
class PositionCounter {
 public:
  int32_t next() const { return next_; }
  void set_next(int32_t next) { next_ = next; }
  /// The greatest time that a picture or a slice of a video got; -1: there was none. Only a video's can be ahead of
  /// next().
  int32_t greatest() const { return greatest_; }
  void append_text(int64_t n, std::vector<MropePosition>& out);
  /// grid: unmerged patches. cells: of a still picture those that are there, row by row, ascending, each where it would
  /// be with the others (empty: all). Slice i of a video is floor(i * slice_step) past the first, in single precision
  /// as transformers has it.
  void append_visual(const GridThw& grid, int64_t merge_size, float slice_step, std::vector<MropePosition>& out,
                     std::span<const int32_t> cells = {});

 private:
  int32_t next_ = 0, greatest_ = -1;
};

/// The vision encoder's table for a grid: (h * w, head_dim / 2), cells of merge_size x merge_size patches in the
/// layout's order, patches of a cell row by row; the first head_dim / 4 pairs turn by the patch row, the second by its
/// column, frequency j: 10000^(-4j / head_dim), starting again for the columns. cells: those that the layout is of;
/// empty: all.
void fill_vision_rope_table(const GridThw& grid, int64_t merge_size, int64_t head_dim, const WindowLayout& layout,
                            float* cos, float* sin, std::span<const int32_t> cells = {});

/// Learned positions of a square of side x side places, in rows of `width` floats, row by row.
struct PositionTable {
  const float* values = nullptr;
  int64_t side = 0, width = 0;
};
/// The table stretched over a grid, corner to corner, bilinear (fast_pos_embed_interpolate of Qwen3VLVisionModel in
/// transformers): the rows of patches [first, first + n) in merge order, of the cells that
/// are there (empty: all). out: (n, width).
void stretch_positions(const PositionTable& table, const GridThw& grid, int64_t merge_size, int64_t first, int64_t n,
                       float* out, std::span<const int32_t> cells = {});

}  // namespace glimpse
