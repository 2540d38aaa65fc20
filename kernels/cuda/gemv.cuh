// Few columns: y = W norm(x) for up to 4 columns per block, decode and small batches.
//
// Each block normalises and quantises its columns for itself (they are few and in L2) and then takes pairs of row
// tiles. Warps split the columns of the matrix, lanes (g, t) the cells of a tile; every lane has row g of both tiles.
//
// Order of operations of an output, whatever the number of columns, blocks or pairs: a lane of warp w adds its cells of
// column tiles w, w + 8, ... in ascending order, for integer formats
//     blk = min * sum(a) * minus;  blk = fma(float(sum_k q a), scale, blk) per scale;  total = fma(blk, scale of a,
//     total)
// and for float formats total = fma(w, a, total), k ascending; the four lanes of a row are added as (t0 + t1) +
// (t2 + t3), warps in ascending order. Integer sums are exact.
#pragma once

#include "kernels/cuda/cells.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/norm.cuh"

namespace glimpse::cuda {

constexpr int kGemvThreads = 256;
constexpr int kGemvWarps = kGemvThreads / kWarp;
constexpr int kMaxNormPieces = 16;

/// Columns that share a scale of the quantised activations: as the CPU kernels have it.
GLIMPSE_HD constexpr int act_block(Format format) {
  return planes_of(format).super ? 256 : 32;
}

/// Byte offsets in shared memory. One record per column: values, scales, sums.
struct GemvShared {
  int scales_at = 0, sums_at = 0, record = 0;  // in a record
  int partials_at = 0, scratch_at = 0, total = 0;
};
GLIMPSE_HD GemvShared gemv_shared(Format format, int n_columns, int column_tiles) {
  const Planes p = planes_of(format);
  const int k = column_tiles * kTileColumns;
  GemvShared s;
  s.scales_at = p.integer() ? k : 4 * k;
  s.sums_at = s.scales_at + (p.integer() ? k / 32 * 4 : 0);
  s.record = s.sums_at + (p.integer() ? k / p.sub * 4 : 0);
  s.partials_at = n_columns * s.record;
  s.scratch_at = s.partials_at + 2 * kGemvWarps * 2 * kTileRows * n_columns * 4;
  s.total = s.scratch_at + (32 + 2 * kMaxNormPieces) * 4;
  return s;
}

/// Where float activations lie inside a column tile: element i of step s of cell t, so that the four cells of a row are
/// read side by side.
GLIMPSE_HD constexpr int permuted(int k) {
  return k / kTileColumns * kTileColumns + k % kCell / 4 * 16 + k % kTileColumns / kCell * 4 + k % 4;
}

/// norm(x) of one column into a record of shared memory. All threads take part; a barrier must follow.
template <Format format>
GLIMPSE_DEVICE void prepare_column(const LinearArgs& args, const float* x, int k_padded, const GemvShared& layout,
                                   uint8_t* record, float* scratch) {
  constexpr Planes p = planes_of(format);
  const int width = norm_width(args.norm, args.k);
  float* const pieces = scratch + 32;  // mean and inverse deviation of each
  for (int piece = 0; piece * width < args.k; ++piece) {
    const Moments m = moments(x + piece * width, args.norm, width, scratch);
    if (thread_index() == 0) {
      pieces[2 * piece] = m.mean;
      pieces[2 * piece + 1] = m.inverse;
    }
  }
  barrier();
  const auto value = [&](int i) {
    if (i >= args.k) return 0.0f;
    const int piece = i / width;
    return normalized(x[i], args.norm, Moments{pieces[2 * piece], pieces[2 * piece + 1]}, i - piece * width);
  };
  if constexpr (!p.integer()) {
    for (int i = thread_index(); i < k_padded; i += kGemvThreads) {
      reinterpret_cast<float*>(record)[permuted(i)] = value(i);
    }
  } else {
    constexpr uint32_t tiny_bits = 27u << 23;  // 2^-100: below it 127 / max could overflow
    constexpr uint32_t infinity_bits = 0x7f800000u;
    auto* const scales = reinterpret_cast<float*>(record + layout.scales_at);
    auto* const sums = reinterpret_cast<int*>(record + layout.sums_at);
    const int lane = lane_index();
    // A warp takes 256 columns, a lane 8 of them.
    for (int first = warp_index() * 256; first < k_padded; first += kGemvWarps * 256) {
      const int at = first + 8 * lane;
      float v[8];
      uint32_t max_bits = 0;  // magnitudes compare like their bits, NaN above infinity
      GLIMPSE_UNROLL
      for (int i = 0; i < 8; ++i) {
        v[i] = value(at + i);
        const uint32_t bits = float_to_bits(v[i]) & 0x7fffffffu;
        max_bits = bits > max_bits ? bits : max_bits;
      }
      GLIMPSE_UNROLL
      for (int mask = 1; mask < act_block(format) / 8; mask *= 2) {
        const uint32_t other = shuffle_xor(max_bits, mask);
        max_bits = other > max_bits ? other : max_bits;
      }
      const float max = bits_to_float(max_bits);
      const bool usable = max_bits >= tiny_bits && max_bits < infinity_bits;
      const float scale = usable ? max / 127.0f : max_bits >= infinity_bits ? bits_to_float(0x7fc00000u) : 0.0f;
      const float inverse = usable ? 127.0f / max : 0.0f;
      uint32_t words[2] = {0, 0};
      int sum = 0;
      GLIMPSE_UNROLL
      for (int i = 0; i < 8; ++i) {
        const int q = usable ? round_to_int(v[i] * inverse) : 0;
        words[i / 4] |= (static_cast<uint32_t>(q) & 255u) << (8 * (i % 4));
        sum += q;
      }
      GLIMPSE_UNROLL
      for (int mask = 1; mask < p.sub / 8; mask *= 2) sum += shuffle_xor(sum, mask);
      if (at >= k_padded) continue;
      *reinterpret_cast<Vec8*>(record + at) = Vec8{{words[0], words[1]}};
      if (at % act_block(format) == 0) scales[at / act_block(format)] = scale;
      if (at % p.sub == 0) sums[at / p.sub] = sum;
    }
  }
}

/// acc[h][c] += cells (row g, t) of tiles h = 0, 1 times column c, in column tile kt.
template <Format format, int kColumns>
GLIMPSE_DEVICE void multiply_cells(const Segment& s, const PairTiles& pair, int kt, const GemvShared& layout,
                                   const uint8_t* columns, float (&acc)[2][kColumns]) {
  constexpr Planes p = planes_of(format);
  const int g = lane_index() / 4, t = lane_index() % 4;
  if constexpr (p.integer()) {
    RawCell<format> raw[2];
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) load_cell<format, true>(s.w[pair.matrix[h]], pair.tile[h], kt, 0, g, t, raw[h]);
    const int cell = kt * 4 + t;
    GLIMPSE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const uint8_t* const record = columns + c * layout.record;
      const auto* const values = reinterpret_cast<const Vec16*>(record + cell * kCell);
      const Vec16 low = values[0], high = values[1];
      const float act_scale = reinterpret_cast<const float*>(record + layout.scales_at)[p.super ? cell / 8 : cell];
      const int* const sums = reinterpret_cast<const int*>(record + layout.sums_at) + cell * (kCell / p.sub);
      GLIMPSE_UNROLL
      for (int h = 0; h < 2; ++h) {
        const CellScales scales = cell_scales<format>(raw[h], cell % 8);
        int dot[2] = {0, 0};
        GLIMPSE_UNROLL
        for (int step = 0; step < 8; ++step) {
          const uint32_t a = step < 4 ? low.w[step] : high.w[step - 4];
          int& sum = dot[p.sub == 16 ? step / 4 : 0];
          sum = p.is_signed ? dp4a(cell_codes<format>(raw[h], step), a, sum)
                            : dp4a_us(cell_codes<format>(raw[h], step), a, sum);
        }
        float blk = 0;
        if constexpr (p.sub == 16) {
          if constexpr (p.mins) {
            blk = static_cast<float>(scales.min[0] * sums[0] + scales.min[1] * sums[1]) * scales.minus;
          }
          blk = fmaf(static_cast<float>(dot[0] - p.offset * sums[0]), scales.scale[0], blk);
          blk = fmaf(static_cast<float>(dot[1] - p.offset * sums[1]), scales.scale[1], blk);
        } else {
          if constexpr (p.mins) blk = static_cast<float>(scales.min[0] * sums[0]) * scales.minus;
          const int value = p.offset != 0 ? dot[0] - p.offset * sums[0] : dot[0];
          blk = fmaf(static_cast<float>(value), scales.scale[0], blk);
        }
        acc[h][c] = fmaf(blk, act_scale, acc[h][c]);
      }
    }
  } else {
    GLIMPSE_UNROLL
    for (int part = 0; part < p.parts(); ++part) {
      RawCell<format> raw[2];
      GLIMPSE_UNROLL
      for (int h = 0; h < 2; ++h) load_cell<format, true>(s.w[pair.matrix[h]], pair.tile[h], kt, part, g, t, raw[h]);
      GLIMPSE_UNROLL
      for (int step = 0; step < RawCell<format>::kSteps; ++step) {
        float w[2][4];
        GLIMPSE_UNROLL
        for (int h = 0; h < 2; ++h) cell_floats<format>(raw[h], CellScales{}, step, w[h]);
        GLIMPSE_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          const auto* const x = reinterpret_cast<const float*>(columns + c * layout.record) + kt * kTileColumns +
                                (part * RawCell<format>::kSteps + step) * 16 + t * 4;
          const Vec16 a = *reinterpret_cast<const Vec16*>(x);
          GLIMPSE_UNROLL
          for (int h = 0; h < 2; ++h) {
            GLIMPSE_UNROLL
            for (int i = 0; i < 4; ++i) acc[h][c] = fmaf(w[h][i], bits_to_float(a.w[i]), acc[h][c]);
          }
        }
      }
    }
  }
}

/// Grid: x: blocks that share the pairs of all segments, y: groups of kColumns columns.
template <Format format, int kColumns>
GLIMPSE_DEVICE void gemv(const LinearArgs& args) {
  const int column_tiles = args.segment[0].w[0].column_tiles;
  const GemvShared layout = gemv_shared(format, kColumns, column_tiles);
  constexpr bool of_step = kColumns == 1;  // a recorded step has one column
  if constexpr (of_step) launch_dependents();
  uint8_t* const columns = shared();
  auto* const partials = reinterpret_cast<float*>(columns + layout.partials_at);
  auto* const scratch = reinterpret_cast<float*>(columns + layout.scratch_at);
  const int lane = lane_index(), warp = warp_index(), g = lane / 4, t = lane % 4;
  const int first_column = block_y() * kColumns;
  int n_pairs = 0;
  for (int i = 0; i < args.n_segments; ++i) n_pairs += args.segment[i].n_pairs;

  // The weights do not depend on what the previous kernel made: they come while the columns are prepared.
  if (block_x() < n_pairs) {
    const PairPlace place = find_pair(args, block_x());
    const Segment& s = args.segment[place.segment];
    const PairTiles pair = pair_tiles(s, place.pair);
    constexpr int tile_bytes = kCellsPerTile * planes_of(format).low_bytes();
    for (int h = 0; h < 2; ++h) {
      const WeightView& w = s.w[pair.matrix[h]];
      const uint8_t* const first = w.data + tile_index(w, pair.tile[h], 0) * tile_bytes;
      for (int at = thread_index() * 128; at < column_tiles * tile_bytes; at += kGemvThreads * 128)
        prefetch(first + at);
    }
  }
  if constexpr (of_step) dependency_wait();
  for (int c = 0; c < kColumns; ++c) {
    // A block of fewer columns computes the last one several times and stores it once.
    const int column = first_column + c < args.n ? first_column + c : args.n - 1;
    prepare_column<format>(args, args.x + column * args.ld_x, column_tiles * kTileColumns, layout,
                           columns + c * layout.record, scratch);
    barrier();
  }

  int buffer = 0;
  for (int index = block_x(); index < n_pairs; index += grid_x()) {
    const PairPlace place = find_pair(args, index);
    const Segment& s = args.segment[place.segment];
    const PairTiles pair = pair_tiles(s, place.pair);
    float acc[2][kColumns] = {};
    for (int kt = warp; kt < column_tiles; kt += kGemvWarps) {
      multiply_cells<format, kColumns>(s, pair, kt, layout, columns, acc);
    }
    // [buffer][warp][tile][column][row]; two buffers, so that one barrier per pair is enough.
    float* const mine = partials + (buffer * kGemvWarps + warp) * 2 * kColumns * kTileRows;
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) {
      GLIMPSE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        float sum = acc[h][c];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        if (t == 0) mine[(h * kColumns + c) * kTileRows + g] = sum;
      }
    }
    barrier();
    if (thread_index() < kColumns * kTileRows) {
      const int c = thread_index() / kTileRows, row = thread_index() % kTileRows;
      float sum[2] = {0, 0};
      for (int w = 0; w < kGemvWarps; ++w) {
        const float* const from = partials + (buffer * kGemvWarps + w) * 2 * kColumns * kTileRows;
        sum[0] += from[c * kTileRows + row];
        sum[1] += from[(kColumns + c) * kTileRows + row];
      }
      const StepState* const step = of_step ? args.step : nullptr;
      if (first_column + c < args.n) finish(args, step, s, place.pair, row, first_column + c, sum[0], sum[1]);
    }
    buffer ^= 1;
  }
}

}  // namespace glimpse::cuda
