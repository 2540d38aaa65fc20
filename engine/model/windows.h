// The order in which a vision encoder with windows takes the cells of a picture, so that a window is neighbouring rows
// (get_window_index in transformers).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace glimpse {

/// Cells are merged patches, numbered row by row of the picture.
struct WindowLayout {
  /// Cells [from, from + count) are the encoder's cells [to, to + count).
  struct Run {
    int64_t to = 0, from = 0, count = 0;
  };
  std::vector<Run> runs;         // ascending in `to`; together all cells
  std::vector<int64_t> windows;  // cells of each window, in the encoder's order; empty: no windows

  /// A grid of rows x cols cells in windows of side x side, tiled from the top left; those at the right and lower edge
  /// are smaller. side 0: no windows, and the cells as they are. Where only some cells are there, ascending, `from` and
  /// `to` count those, and windows that have none are none.
  WindowLayout(int64_t rows, int64_t cols, int64_t side, std::span<const int32_t> some = {});

  /// use(to, from, count) for the parts of runs within the encoder's cells [first, first + n).
  template <typename Use>
  void for_runs(int64_t first, int64_t n, Use&& use) const {
    for (const Run& run : runs) {
      const int64_t begin = run.to > first ? run.to : first;
      const int64_t end = run.to + run.count < first + n ? run.to + run.count : first + n;
      if (begin < end) use(begin, run.from + begin - run.to, end - begin);
    }
  }

 private:
  void append_run(int64_t to, int64_t from, int64_t count);
  void of_some(int64_t rows, int64_t cols, int64_t side, std::span<const int32_t> some);
};

}  // namespace glimpse
