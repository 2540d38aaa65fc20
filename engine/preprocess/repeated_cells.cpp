#include "engine/preprocess/repeated_cells.h"

#include <cstring>
#include <utility>
#include <vector>

namespace glimpse {
namespace {

// The cells of patches in merge order, where a cell's are neighbours.
class Cells {
 public:
  Cells(const Patches& patches, int64_t merge_size)
      : across_(patches.grid.w / merge_size),
        down_(patches.grid.h / merge_size),
        data_(patches.bytes.empty() ? reinterpret_cast<const std::byte*>(patches.values.data())
                                    : reinterpret_cast<const std::byte*>(patches.bytes.data())),
        n_bytes_(static_cast<size_t>(merge_size * merge_size * patches.row_length) *
                 (patches.bytes.empty() ? sizeof(float) : 1)) {}

  int64_t across() const { return across_; }
  int64_t down() const { return down_; }
  bool same(int64_t a, int64_t b) const { return std::memcmp(cell(a), cell(b), n_bytes_) == 0; }

 private:
  const std::byte* cell(int64_t i) const { return data_ + static_cast<size_t>(i) * n_bytes_; }
  int64_t across_, down_;
  const std::byte* data_;
  size_t n_bytes_;
};

// In ascending order.
std::vector<int32_t> cells_not_foretold(const Cells& cells) {
  const int64_t across = cells.across();
  std::vector<int32_t> kept;
  for (int64_t row = 0; row < cells.down(); ++row) {
    for (int64_t col = 0; col < across; ++col) {
      const int64_t here = row * across + col, left = here - 1, above = here - across, above_left = above - 1;
      bool foretold = false;
      if (row > 0 && col > 0) {
        const bool edge = cells.same(above_left, left) && !cells.same(above_left, above);
        foretold = cells.same(here, edge ? above : left);
      } else if (row > 0 || col > 0) {
        foretold = cells.same(here, col > 0 ? left : above);
      }
      if (!foretold) kept.push_back(static_cast<int32_t>(here));
    }
  }
  return kept;
}

// Moves the rows of kept cells to the front.
template <typename T>
void keep(const std::vector<int32_t>& cells, size_t n_of_cell, std::vector<T>& rows) {
  for (size_t i = 0; i < cells.size(); ++i) {
    std::memmove(rows.data() + i * n_of_cell, rows.data() + static_cast<size_t>(cells[i]) * n_of_cell,
                 n_of_cell * sizeof(T));
  }
  rows.resize(cells.size() * n_of_cell);
}

}  // namespace

void leave_out_repeated_cells(Patches& patches, int64_t merge_size) {
  const int64_t group = merge_size * merge_size;
  std::vector<int32_t> kept = cells_not_foretold(Cells(patches, merge_size));
  if (static_cast<int64_t>(kept.size()) * group == patches.grid.n_patches()) return;
  const auto n_of_cell = static_cast<size_t>(group * patches.row_length);
  patches.bytes.empty() ? keep(kept, n_of_cell, patches.values) : keep(kept, n_of_cell, patches.bytes);
  patches.cells = std::move(kept);
}

}  // namespace glimpse
