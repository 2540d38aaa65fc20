// Normalised rows: shared by the kernels that quantise them, keep them as floats or make them bfloat16.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/weight_layout.h"

namespace glimpse::cuda {

/// Mean and reciprocal deviation of one piece of a row.
struct Moments {
  float mean, inverse;
};

/// All threads of the block take part. Sums: each thread ascending over its elements, then block_sum(). scratch: 32
/// floats.
GLIMPSE_DEVICE Moments moments(const float* x, const NormView& norm, int width, float* scratch) {
  Moments m{0.0f, 1.0f};
  if (norm.kind == NormKind::kNone) return m;
  const float n = static_cast<float>(width);
  if (norm.kind == NormKind::kLayer) {
    float sum = 0;
    for (int i = thread_index(); i < width; i += n_threads()) sum += x[i];
    m.mean = block_sum(sum, scratch) / n;
  }
  float square = 0;
  for (int i = thread_index(); i < width; i += n_threads()) square = fmaf(x[i] - m.mean, x[i] - m.mean, square);
  m.inverse = 1.0f / sqrtf(block_sum(square, scratch) / n + norm.eps);
  return m;
}

GLIMPSE_DEVICE float normalized(float x, const NormView& norm, const Moments& m, int i) {
  if (norm.kind == NormKind::kNone) return x;
  const float y = (x - m.mean) * m.inverse * norm.weight[i];
  return norm.kind == NormKind::kLayer && norm.bias != nullptr ? y + norm.bias[i] : y;
}

/// Length of the pieces that a row of k elements is normalised in.
GLIMPSE_DEVICE int norm_width(const NormView& norm, int k) {
  return norm.kind == NormKind::kNone || norm.width <= 0 ? k : norm.width;
}

/// A row of `width` floats by one warp, the same in every lane. Sums: each lane ascending over its groups of four, then
/// warp_sum().
GLIMPSE_DEVICE Moments warp_moments(const float* x, const NormView& norm, int width) {
  const auto sum_over = [&](const auto& term) {
    float sum = 0;
    GLIMPSE_UNROLL_BY(4)
    for (int at = 4 * lane_index(); at < width; at += 4 * kWarp) {
      float v[4];
      load_rows<4>(x + at, width - at, v);
      GLIMPSE_UNROLL
      for (int i = 0; i < 4; ++i) sum = at + i < width ? term(v[i], sum) : sum;
    }
    return warp_sum(sum);
  };
  Moments m{0.0f, 1.0f};
  if (norm.kind == NormKind::kNone) return m;
  const float n = static_cast<float>(width);
  if (norm.kind == NormKind::kLayer) m.mean = sum_over([](float value, float sum) { return sum + value; }) / n;
  const float square = sum_over([&](float value, float sum) { return fmaf(value - m.mean, value - m.mean, sum); });
  m.inverse = 1.0f / sqrtf(square / n + norm.eps);
  return m;
}

/// norm(x) as matrix products read it, in bfloat16 and zero from column k to ld_out. A warp takes a row, a lane columns
/// 4s .. 4s + 3 of the four cells of a tile, for one step s. Layout::store(args, row, first of these columns, values).
template <typename Layout>
GLIMPSE_DEVICE void rows_for_products(const RowsArgs& args) {
  const int row = block_x() * (n_threads() / kWarp) + warp_index();
  if (row >= args.n) return;
  const ColumnPlace from = args.places != nullptr ? args.places[row] : ColumnPlace{row, 0};
  if (from.row < 0) return;
  const float* const x = args.x + from.row * args.ld_x + from.slot * args.slot_ld_x;
  const bool has_norm = args.norm.kind != NormKind::kNone;
  const int width = norm_width(args.norm, args.k);
  // Lane p: the moments of piece p.
  Moments mine{0.0f, 1.0f};
  for (int piece = 0; has_norm && piece * width < args.k; ++piece) {
    const Moments m = warp_moments(x + piece * width, args.norm, width);
    if (piece == lane_index()) mine = m;
  }
  const Moments whole{shuffle(mine.mean, 0), shuffle(mine.inverse, 0)};
  const int items = static_cast<int>(args.ld_out) / kTileColumns * (kCell / 4);
  GLIMPSE_UNROLL_BY(2)
  for (int first = 0; first < items; first += kWarp) {
    const int item = first + lane_index(), k = item / (kCell / 4) * kTileColumns + item % (kCell / 4) * 4;
    float v[4][4];
    GLIMPSE_UNROLL
    for (int cell = 0; cell < 4; ++cell) {
      const int at = k + cell * kCell, left = item < items ? args.k - at : 0;
      load_rows<4>(x + (left > 0 ? at : 0), left, v[cell]);
      if (!has_norm) continue;
      float weight[4], bias[4] = {};
      const int w = width < args.k ? at % width : at;  // pieces share their weights
      const bool together = w + 4 <= width;
      load_rows<4>(args.norm.weight + w, together ? left : 0, weight);
      if (args.norm.bias != nullptr) load_rows<4>(args.norm.bias + w, together ? left : 0, bias);
      GLIMPSE_UNROLL
      for (int i = 0; i < 4; ++i) {
        Moments m = whole;
        if (width < args.k) {
          const int piece = (at + i) / width;
          m = {shuffle(mine.mean, piece), shuffle(mine.inverse, piece)};
        }
        if (!together && i < left) {
          weight[i] = args.norm.weight[(at + i) % width];
          bias[i] = args.norm.bias != nullptr ? args.norm.bias[(at + i) % width] : 0.0f;
        }
        v[cell][i] = i < left ? (v[cell][i] - m.mean) * m.inverse * weight[i] : 0.0f;
        if (args.norm.bias != nullptr && i < left) v[cell][i] += bias[i];
      }
    }
    if (item < items) Layout::store(args, row, k, v);
  }
}

}  // namespace glimpse::cuda
