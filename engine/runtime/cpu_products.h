// How CpuOps multiplies panels. Private to engine/runtime.
#pragma once

#include <algorithm>

#include "engine/runtime/cpu_ops.h"
#include "kernels/activation/activation.h"

namespace glimpse {

inline const CpuWeight& cpu_weight(const Linear& linear) {
  return static_cast<const CpuWeight&>(*linear.weight);
}

// Panels that one kernel call takes: many when there are few columns, so that calls are rare; few when there are many,
// so that the tile stays in cache. Never one alone: the activations come from beyond the L2 cache once a call, and
// results are written in longer pieces.
inline int64_t panels_per_call(const ActView& act) {
  return std::clamp<int64_t>(256 / std::max<int64_t>(1, act.n), kTilePanels, 16);
}

// Less than this of a matrix in the cache is multiplied with one column sooner than two threads can share it (at 55
// GB/s, half of it takes 2 microseconds).
inline constexpr int64_t kAloneBytes = int64_t{224} << 10;

// bytes_per_panel: of weights, those of all matrices that a piece multiplies.
inline Grain panel_grain(const ActView& act, uint64_t bytes_per_panel) {
  return {.most = panels_per_call(act),
          .least = kTilePanels,
          .alone = kAloneBytes / (static_cast<int64_t>(bytes_per_panel) * act.n)};
}

// The same grain for ranges of `unit` things each.
inline Grain grain_of(const Grain& grain, int64_t unit) {
  return {.most = std::max<int64_t>(1, grain.most / unit),
          .least = std::max<int64_t>(1, grain.least / unit),
          .alone = grain.alone / unit};
}

// Normalising and quantising as many elements as this takes about as long as handing half of them to another thread.
inline constexpr int64_t kAloneElements = 4096;

// Multiplies panels [begin, end) of the matrix, at most panels_per_call(act), with all columns of act; epilogue(row,
// tile) gets the product of the rows from `row` on, without padding rows, its bias not yet added.
template <typename Epilogue>
void multiply_panels(const Linear& linear, int64_t begin, int64_t end, const ActView& act, float* values,
                     std::byte* expand, Epilogue&& epilogue) {
  const CpuWeight& w = cpu_weight(linear);
  const int64_t ld = (end - begin) * kPanelRows, row = begin * kPanelRows;
  w.kernel->run(w.panels.data + static_cast<uint64_t>(begin) * w.panels.panel_bytes, w.panels.panel_bytes, end - begin,
                act, values, ld, expand);
  const float* bias = linear.bias ? linear.bias->data + row : nullptr;
  epilogue(row, ProductTile{values, ld, std::min(ld, w.rows - row), act.n, bias});
}

}  // namespace glimpse
