#include "engine/model/windows.h"

#include <algorithm>

namespace glimpse {

WindowLayout::WindowLayout(int64_t rows, int64_t cols, int64_t side, std::span<const int32_t> some) {
  if (side == 0) {
    runs.push_back({0, 0, some.empty() ? rows * cols : static_cast<int64_t>(some.size())});
    return;
  }
  if (!some.empty()) {
    of_some(rows, cols, side, some);
    return;
  }
  int64_t to = 0;
  for (int64_t top = 0; top < rows; top += side) {
    for (int64_t left = 0; left < cols; left += side) {
      const int64_t height = std::min(side, rows - top), width = std::min(side, cols - left);
      windows.push_back(height * width);
      for (int64_t row = top; row < top + height; ++row, to += width) runs.push_back({to, row * cols + left, width});
    }
  }
}

// Cells of one row of the picture that are neighbours among those that are there go on in one run.
void WindowLayout::append_run(int64_t to, int64_t from, int64_t count) {
  if (!runs.empty() && runs.back().from + runs.back().count == from) {
    runs.back().count += count;
  } else {
    runs.push_back({to, from, count});
  }
}

void WindowLayout::of_some(int64_t rows, int64_t cols, int64_t side, std::span<const int32_t> some) {
  int64_t to = 0;
  for (int64_t top = 0; top < rows; top += side) {
    for (int64_t left = 0; left < cols; left += side) {
      const int64_t first = to, right = std::min(left + side, cols);
      for (int64_t row = top; row < std::min(top + side, rows); ++row) {
        const auto begin = std::lower_bound(some.begin(), some.end(), row * cols + left);
        const int64_t count = std::lower_bound(begin, some.end(), row * cols + right) - begin;
        if (count > 0) append_run(to, begin - some.begin(), count);
        to += count;
      }
      if (to > first) windows.push_back(to - first);
    }
  }
}

}  // namespace glimpse
