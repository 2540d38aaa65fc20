#include "engine/model/positions.h"

#include <algorithm>
#include <cmath>

namespace glimpse {

void PositionCounter::append_text(int64_t n, std::vector<MropePosition>& out) {
  for (int64_t i = 0; i < n; ++i, ++next_) out.push_back({next_, next_, next_});
}

void PositionCounter::append_visual(const GridThw& grid, int64_t merge_size, std::vector<MropePosition>& out) {
  const auto slices = static_cast<int32_t>(grid.t);
  const auto rows = static_cast<int32_t>(grid.h / merge_size);
  const auto cols = static_cast<int32_t>(grid.w / merge_size);
  for (int32_t t = 0; t < slices; ++t) {
    for (int32_t h = 0; h < rows; ++h) {
      for (int32_t w = 0; w < cols; ++w) out.push_back({next_ + t, next_ + h, next_ + w});
    }
  }
  next_ += std::max({slices, rows, cols});  // one more than the greatest component used
}

void fill_vision_rope_table(const GridThw& grid, int64_t merge_size, int64_t head_dim, float* cos, float* sin) {
  // One row per coordinate: rows and columns of patches use the same frequencies.
  const int64_t quarter = head_dim / 4;
  const int64_t n_coordinates = std::max(grid.h, grid.w);
  std::vector<float> table_cos(static_cast<size_t>(n_coordinates * quarter)), table_sin(table_cos.size());
  for (int64_t j = 0; j < quarter; ++j) {
    const double frequency = std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(quarter));
    for (int64_t i = 0; i < n_coordinates; ++i) {
      const double angle = static_cast<double>(i) * frequency;
      table_cos[static_cast<size_t>(i * quarter + j)] = static_cast<float>(std::cos(angle));
      table_sin[static_cast<size_t>(i * quarter + j)] = static_cast<float>(std::sin(angle));
    }
  }
  const auto put = [&](int64_t coordinate) {
    cos = std::copy_n(table_cos.data() + coordinate * quarter, quarter, cos);
    sin = std::copy_n(table_sin.data() + coordinate * quarter, quarter, sin);
  };
  // Merge order: blocks of merge_size x merge_size patches in raster order, raster order inside a block.
  for (int64_t block_row = 0; block_row < grid.h; block_row += merge_size) {
    for (int64_t block_col = 0; block_col < grid.w; block_col += merge_size) {
      for (int64_t dy = 0; dy < merge_size; ++dy) {
        for (int64_t dx = 0; dx < merge_size; ++dx) {
          put(block_row + dy);
          put(block_col + dx);
        }
      }
    }
  }
}

}  // namespace glimpse
