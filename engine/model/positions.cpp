#include "engine/model/positions.h"

#include <algorithm>
#include <cmath>

namespace glimpse {

void PositionCounter::append_text(int64_t n, std::vector<MropePosition>& out) {
  for (int64_t i = 0; i < n; ++i, ++next_) out.push_back({next_, next_, next_});
}

namespace {

int64_t cell_of(int64_t i, std::span<const int32_t> cells) {
  return cells.empty() ? i : cells[static_cast<size_t>(i)];
}

}  // namespace

void PositionCounter::append_visual(const GridThw& grid, int64_t merge_size, float slice_step,
                                    std::vector<MropePosition>& out, std::span<const int32_t> cells) {
  const auto slices = static_cast<int32_t>(grid.t);
  const auto rows = static_cast<int32_t>(grid.h / merge_size);
  const auto cols = static_cast<int32_t>(grid.w / merge_size);
  int32_t time = next_;
  for (const int32_t cell : cells) out.push_back({time, next_ + cell / cols, next_ + cell % cols});
  for (int32_t t = 0; cells.empty() && t < slices; ++t) {
    const double ahead = std::floor(static_cast<float>(t) * slice_step);
    time = static_cast<int32_t>(std::min<double>(next_ + ahead, kMostPosition));
    for (int32_t h = 0; h < rows; ++h) {
      for (int32_t w = 0; w < cols; ++w) out.push_back({time, next_ + h, next_ + w});
    }
  }
  next_ = std::min(next_ + std::max(rows, cols), kMostPosition);  // a wide grid may have one cell, and many come
  greatest_ = std::max(greatest_, time);
}

void fill_vision_rope_table(const GridThw& grid, int64_t merge_size, int64_t head_dim, const WindowLayout& layout,
                            float* cos, float* sin, std::span<const int32_t> cells) {
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
  const int64_t cells_across = grid.w / merge_size;
  const int64_t n_cells = cells.empty() ? grid.h / merge_size * cells_across : static_cast<int64_t>(cells.size());
  layout.for_runs(0, n_cells, [&](int64_t, int64_t from, int64_t count) {
    for (int64_t i = from; i < from + count; ++i) {
      const int64_t cell = cell_of(i, cells);
      for (int64_t dy = 0; dy < merge_size; ++dy) {
        for (int64_t dx = 0; dx < merge_size; ++dx) {
          put(cell / cells_across * merge_size + dy);
          put(cell % cells_across * merge_size + dx);
        }
      }
    }
  });
}

namespace {

// Where a patch stands between two places of the table.
struct Between {
  int64_t lower, upper;
  float share;  // of the upper one

  Between(int64_t i, int64_t n, int64_t side) {
    const float at =
        static_cast<float>(i) * static_cast<float>(side - 1) / static_cast<float>(std::max<int64_t>(n - 1, 1));
    lower = std::min(static_cast<int64_t>(at), side - 1);
    upper = std::min(lower + 1, side - 1);
    share = at - static_cast<float>(lower);
  }
};

}  // namespace

void stretch_positions(const PositionTable& table, const GridThw& grid, int64_t merge_size, int64_t first, int64_t n,
                       float* out, std::span<const int32_t> cells) {
  const int64_t group = merge_size * merge_size, cells_across = grid.w / merge_size;
  for (int64_t i = first; i < first + n; ++i, out += table.width) {
    const int64_t cell = cell_of(i / group, cells), inside = i % group;
    const Between row(cell / cells_across * merge_size + inside / merge_size, grid.h, table.side);
    const Between col(cell % cells_across * merge_size + inside % merge_size, grid.w, table.side);
    const auto place = [&](int64_t r, int64_t c) { return table.values + (r * table.side + c) * table.width; };
    const float* const corners[4] = {place(row.lower, col.lower), place(row.lower, col.upper),
                                     place(row.upper, col.lower), place(row.upper, col.upper)};
    const float shares[4] = {(1 - row.share) * (1 - col.share), (1 - row.share) * col.share,
                             row.share * (1 - col.share), row.share * col.share};
    for (int64_t j = 0; j < table.width; ++j) {
      out[j] =
          shares[0] * corners[0][j] + shares[1] * corners[1][j] + shares[2] * corners[2][j] + shares[3] * corners[3][j];
    }
  }
}

}  // namespace glimpse
