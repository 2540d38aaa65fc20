#include "engine/model/windows.h"

#include <algorithm>

namespace glimpse {

WindowLayout::WindowLayout(int64_t rows, int64_t cols, int64_t side) {
  if (side == 0) {
    runs.push_back({0, 0, rows * cols});
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

}  // namespace glimpse
