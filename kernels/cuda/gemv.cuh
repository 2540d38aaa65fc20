// Few columns: y = W norm(x) for up to 8 columns per block, decode and small batches.
//
// Each block normalises and quantises its columns for itself (they are few and in L2: gemv_columns.cuh) and then takes
// pairs of row tiles. Warps split the columns of the matrix, lanes (g, t) the cells of a tile; every lane has row g of
// both tiles. What does not depend on the columns is done before they are there: the first weights of a step's products
// are in registers when the launch ahead ends.
//
// Order of operations of an output, whatever the number of columns, blocks or pairs: a lane of warp w adds its cells of
// column tiles w, w + 8, ... in ascending order, for integer formats
//     blk = min * sum(a) * minus;  blk = fma(float(sum_k q a), scale, blk) per scale;  total = fma(blk, scale of a,
//     total)
// and for float formats total = fma(w, a, total), k ascending; the four lanes of a row are added as (t0 + t1) +
// (t2 + t3), warps in ascending order. Integer sums are exact.
#pragma once

#include "kernels/cuda/cells.cuh"
#include "kernels/cuda/gemv_columns.cuh"

namespace glimpse::cuda {

/// Whether a group of n columns has neither column c nor the one behind it: with pairs of columns there are sums enough
/// under way, and experts often have one or two of eight.
template <int kColumns>
GLIMPSE_DEVICE bool lacks(int c, int n) {
  return kColumns > 2 && c > 0 && c % 2 == 0 && c >= n;
}

/// Where a lane finds the values, scales and sums of its cell of a column tile, in bytes from a record's start.
template <Format format>
struct CellColumns {
  static constexpr Planes kPlanes = planes_of(format);
  /// From a warp's column tile to its next.
  static constexpr int kCells = kGemvWarps * kTileColumns / kCell;
  static constexpr int kScaleBytes = kCells / (kPlanes.super ? 8 : 1) * 4,
                       kSumBytes = kCells * (kCell / kPlanes.sub) * 4;
  int values, scales, sums;

  GLIMPSE_DEVICE CellColumns(const GemvShared& layout, int column_tile) {
    const int cell = column_tile * 4 + lane_index() % 4;
    values = cell * kCell;
    scales = layout.scales_at + (kPlanes.super ? cell / 8 : cell) * 4;
    sums = layout.sums_at + cell * (kCell / kPlanes.sub) * 4;
  }
  GLIMPSE_DEVICE void next(int n) {
    values += n * kCells * kCell;
    scales += n * kScaleBytes;
    sums += n * kSumBytes;
  }
};

/// Sums of the products of a cell's codes with a column's values: of all of it, or of halves with scales of their own.
template <Format format>
GLIMPSE_DEVICE void cell_dots(const RawCell<format>& raw, const Vec16& low, const Vec16& high, int (&dot)[2]) {
  constexpr Planes p = planes_of(format);
  constexpr bool nibbles = p.low_bits == 4 && p.high_bits == 0 && !p.table && !p.shared && !p.is_signed;
  const auto values = [&](int step) { return step < 4 ? low.w[step] : high.w[step - 4]; };
  dot[0] = dot[1] = 0;
  if constexpr (nibbles) {
    int sixteenfold[2] = {0, 0};  // high nibbles, multiplied where they are
    GLIMPSE_UNROLL
    for (int word = 0; word < 4; ++word) {
      const int u = p.sub == 16 ? word / 2 : 0;
      dot[u] = dp4a_us(raw.low[word] & 0x0f0f0f0fu, values(2 * word), dot[u]);
      sixteenfold[u] = dp4a_us(raw.low[word] & 0xf0f0f0f0u, values(2 * word + 1), sixteenfold[u]);
    }
    GLIMPSE_UNROLL
    for (int u = 0; u < 2; ++u) dot[u] += sixteenfold[u] >> 4;
  } else {
    GLIMPSE_UNROLL
    for (int step = 0; step < 8; ++step) {
      int& sum = dot[p.sub == 16 ? step / 4 : 0];
      sum = p.is_signed ? dp4a(cell_codes<format>(raw, step), values(step), sum)
                        : dp4a_us(cell_codes<format>(raw, step), values(step), sum);
    }
  }
}

/// acc[h][c] += the dot products of raw, the lane's cells of tiles h = 0, 1 in a column tile, with column c. k: the
/// cell in its super-block; turn: tiles of the warp behind that of `at`; n: columns that there are (lacks()).
template <Format format, int kColumns>
GLIMPSE_DEVICE void multiply_raw(const RawCell<format> (&raw)[2], int k, const uint8_t* columns, int n, int record,
                                 const CellColumns<format>& at, int turn, float (&acc)[2][kColumns]) {
  constexpr Planes p = planes_of(format);
  using Columns = CellColumns<format>;
  const CellScales scales_of[2] = {cell_scales<format>(raw[0], k), cell_scales<format>(raw[1], k)};
  GLIMPSE_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    if (lacks<kColumns>(c, n)) break;
    const uint8_t* const from = columns + c * record;
    const auto* const values = reinterpret_cast<const Vec16*>(from + at.values + turn * Columns::kCells * kCell);
    const Vec16 low = values[0], high = values[1];
    const float act_scale = *reinterpret_cast<const float*>(from + at.scales + turn * Columns::kScaleBytes);
    const int* const sums = reinterpret_cast<const int*>(from + at.sums + turn * Columns::kSumBytes);
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const CellScales& scales = scales_of[h];
      int dot[2];
      cell_dots<format>(raw[h], low, high, dot);
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
}

/// The same for float formats, whose cells are loaded in parts.
template <Format format, int kColumns>
GLIMPSE_DEVICE void multiply_cells(const WeightView (&weight)[2], const PairTiles& pair, int kt,
                                   const GemvShared& layout, const uint8_t* columns, int n, float (&acc)[2][kColumns]) {
  constexpr Planes p = planes_of(format);
  const int g = lane_index() / 4, t = lane_index() % 4;
  GLIMPSE_UNROLL_BY(kColumns > 4 ? 1 : p.parts())
  for (int part = 0; part < p.parts(); ++part) {
    RawCell<format> raw[2];
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) load_cell<format, true>(weight[h], pair.tile[h], kt, part, g, t, raw[h]);
    GLIMPSE_UNROLL
    for (int step = 0; step < RawCell<format>::kSteps; ++step) {
      float w[2][4];
      GLIMPSE_UNROLL
      for (int h = 0; h < 2; ++h) cell_floats<format>(raw[h], CellScales{}, step, w[h]);
      GLIMPSE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        if (lacks<kColumns>(c, n)) break;
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

/// A lane's cells of the pairs that its block takes, one column tile of its warp after the other: of one column, whose
/// products are done sooner than loads, two of them in registers.
template <Format format, int kColumns>
struct PairWalk {
  static constexpr bool kAhead = kColumns == 1;
  static constexpr int kTurn = (kAhead ? 2 : 1) * kGemvWarps;  // column tiles from one place of `cell` to the next
  /// While columns are prepared few registers are free: enough for both where a cell is five words.
  static constexpr bool kBothEarly =
      !planes_of(format).super && planes_of(format).low_bits + planes_of(format).high_bits == 4;
  CellWalk<format, kGemvWarps> cell[2];
  RawCell<format> raw[2][2];  // of that column tile and the warp's next; of both tiles of the pair

  template <int n>
  GLIMPSE_DEVICE void load_ahead() {
    cell[0].template load_ahead<true, n>(raw[n % 2][0]);
    cell[1].template load_ahead<true, n>(raw[n % 2][1]);
  }
  /// The first column tiles of a pair, of warps that have any.
  GLIMPSE_DEVICE void load_first(int column_tiles) {
    if (!kAhead) return;
    load_ahead<0>();
    if (kBothEarly) load_second(column_tiles);
  }
  GLIMPSE_DEVICE void load_second(int column_tiles) {
    if (kAhead && warp_index() + kGemvWarps < column_tiles) load_ahead<1>();
  }
  GLIMPSE_DEVICE void next_turn() {
    cell[0].move(kTurn);
    cell[1].move(kTurn);
  }
  GLIMPSE_DEVICE void start(const LinearArgs& args, int expert, const PairPlace& place) {
    const Segment& s = args.segment[place.segment];
    const PairTiles pair = pair_tiles(s, place.pair);
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) {
      cell[h].start(weight_of(args, s, pair.matrix[h], expert), pair.tile[h], warp_index(), lane_index() / 4,
                    lane_index() % 4);
    }
  }
  /// From behind pair `from` to the first column tile of pair `to`.
  GLIMPSE_DEVICE void go_on(const LinearArgs& args, int expert, const PairPlace& from, const PairPlace& to) {
    const Segment& s = args.segment[to.segment];
    if (to.segment != from.segment || s.output == Output::kRopeQuery || s.output == Output::kRopeKey) {
      return start(args, expert, to);
    }
    const int column_tiles = s.w[0].column_tiles, row_tiles = s.output == Output::kSwiglu ? 1 : 2;
    const int gone = (column_tiles - 1 - warp_index() + kGemvWarps) / kTurn * kTurn;
    const int64_t n = static_cast<int64_t>(to.pair - from.pair) * row_tiles * column_tiles - gone;
    cell[0].move(n);
    cell[1].move(n);
  }
};
template <Format format, int kColumns>
requires(!planes_of(format).integer()) struct PairWalk<format, kColumns> {
};

/// acc += the products of a pair, at whose first column tile the walk is, with all columns.
template <Format format, int kColumns>
GLIMPSE_DEVICE void multiply_pair(PairWalk<format, kColumns>& walk, int column_tiles, const GemvShared& layout,
                                  const uint8_t* columns, int n, float (&acc)[2][kColumns]) {
  const int warp = warp_index(), k = warp % 2 * 4 + lane_index() % 4;
  CellColumns<format> at(layout, warp);
  int kt = warp;
  if constexpr (!PairWalk<format, kColumns>::kAhead) {
    GLIMPSE_NO_UNROLL
    for (; kt < column_tiles; kt += kGemvWarps) {
      walk.template load_ahead<0>();
      multiply_raw<format, kColumns>(walk.raw[0], k, columns, n, layout.record, at, 0, acc);
      walk.next_turn();
      at.next(1);
    }
  } else {
    GLIMPSE_NO_UNROLL
    for (; kt + kGemvWarps < column_tiles; kt += 2 * kGemvWarps) {
      multiply_raw<format, kColumns>(walk.raw[0], k, columns, n, layout.record, at, 0, acc);
      if (kt + 2 * kGemvWarps < column_tiles) walk.template load_ahead<2>();
      multiply_raw<format, kColumns>(walk.raw[1], k, columns, n, layout.record, at, 1, acc);
      if (kt + 3 * kGemvWarps < column_tiles) walk.template load_ahead<3>();
      walk.next_turn();
      at.next(2);
    }
    if (kt < column_tiles) multiply_raw<format, kColumns>(walk.raw[0], k, columns, n, layout.record, at, 0, acc);
  }
}

/// Of the first so many segments, or all.
GLIMPSE_DEVICE int count_pairs_of(const LinearArgs& args, int n_segments) {
  int n_pairs = 0;
  GLIMPSE_UNROLL
  for (int i = 0; i < kMaxSegments; ++i) {
    n_pairs += i < args.n_segments && i < n_segments ? args.segment[i].n_pairs : 0;
  }
  return n_pairs;
}

/// Pairs ahead of the one at hand whose weights a block has asked for.
constexpr int kGemvPairsAhead = 5;

/// Asks for all planes of a running pair number to be brought into L2: threads `first` to `first` + 7 of the block, or
/// all where the architecture has no instruction for it.
template <Format format>
GLIMPSE_DEVICE void prefetch_pair(const LinearArgs& args, int expert, int index, int first) {
  constexpr Planes p = planes_of(format);
  if (!prefetches(first)) return;
  const PairPlace place = find_pair(args, index);
  const Segment& s = args.segment[place.segment];
  const PairTiles pair = pair_tiles(s, place.pair);
  GLIMPSE_UNROLL
  for (int h = 0; h < 2; ++h) {
    const WeightView w = weight_of(args, s, pair.matrix[h], expert);
    const int tile = pair.tile[h], n = w.column_tiles;
    const auto plane = [&](int number, int64_t at, int tile_bytes) {
      if (tile_bytes == 0) return;
      prefetch_range(w.data + at + int64_t{tile} * n * tile_bytes, n * tile_bytes, first + 4 * h + number);
    };
    plane(0, 0, kCellsPerTile * p.low_bytes());
    plane(1, w.high_at, kCellsPerTile * p.high_bytes());
    // A record of a super-block is shared by two column tiles.
    plane(2, w.scales_at, p.super ? kTileRows * p.scale_bytes / 2 : kCellsPerTile * p.scale_bytes);
    plane(3, w.d_at, kTileRows * p.d_bytes / 2);
  }
}

/// Asks for a share of the weights of the step's next product, by one warp: in pieces, so that all blocks' first ones
/// are the first to come.
GLIMPSE_DEVICE void ask_ahead(const LinearArgs& args) {
  constexpr int kAsker = 2, kPiece = 4096;
  if (warp_index() != kAsker || block_y() != 0) return;
  GLIMPSE_NO_UNROLL
  for (const AheadView& view : args.ahead) {
    const int64_t share = (view.n_bytes / 16 + grid_x() - 1) / grid_x() * 16, begin = share * block_x();
    const int64_t left = view.n_bytes - begin, n_bytes = left < share ? left : share;
    GLIMPSE_NO_UNROLL
    for (int64_t at = lane_index() * kPiece; at < n_bytes; at += kWarp * kPiece) {
      prefetch_ahead(view.data + begin + at, static_cast<int>(n_bytes - at < kPiece ? n_bytes - at : kPiece));
    }
  }
}

/// By one warp: the greatest of its rows' values counts for all blocks.
GLIMPSE_DEVICE void publish_best(const uint64_t* best, uint64_t* of_all) {
  warp_barrier();
  if (lane_index() != 0) return;
  uint64_t most = 0;
  for (int row = 0; row < kTileRows; ++row) most = most < best[row] ? best[row] : most;
  atomic_max(of_all, most);
}

/// A column on its way: of a single one, what of it can be loaded before everything else.
struct FirstColumn {
  const float* x = nullptr;
  NormEight norm{};
  Companions<1> with{};  // of the first pair, where no launch makes them
  float v[kGemvTurns][8];
};
GLIMPSE_DEVICE RowPositions step_positions(const LinearArgs& args, bool of_step) {
  return {args.at.n_past, of_step ? args.at.steps : nullptr};
}

/// Running numbers of the pairs that a block takes: every step-th from `begin` on, before `end`.
struct PairRange {
  int begin, end, step;
};

/// The products themselves. first: the block's first pair; walk: its first weights; column: the single one.
template <Format format, int kColumns>
GLIMPSE_DEVICE void gemv_block(const LinearArgs& args, const ColumnGroup& group, const PairRange& pairs,
                               const PairPlace& first, PairWalk<format, kColumns>& walk, FirstColumn& column,
                               uint8_t* columns) {
  const int column_tiles = args.segment[0].w[0].column_tiles;
  constexpr Planes planes = planes_of(format);
  const GemvShared layout = gemv_shared(planes, kColumns, column_tiles);
  constexpr bool of_step = kColumns == 1;  // of one row; products of steps of several rotate and store nothing
  auto* const partials = reinterpret_cast<float*>(columns + layout.partials_at);
  auto* const scratch = reinterpret_cast<float*>(columns + layout.scratch_at);
  const int lane = lane_index(), warp = warp_index(), g = lane / 4, t = lane % 4;
  const RowPositions positions = step_positions(args, of_step);
  const int my_row = thread_index() % kTileRows;
  const bool finishes = thread_index() < group.n * kTileRows;
  const ColumnPlace my_column = finishes ? place_of(args, group.first + thread_index() / kTileRows) : ColumnPlace{};
  Companions<1> with = column.with;
  if constexpr (kColumns == 1) {
    prepare_column<format>(args, column.x, column_tiles * kTileColumns, column.norm, layout, column.v, columns,
                           scratch);
    barrier();
  } else {
    prepare_columns<format, kColumns>(args, group, column_tiles * kTileColumns, layout, columns, scratch);
  }
  if constexpr (planes_of(format).integer()) {
    if (pairs.begin < pairs.end && warp < column_tiles) {
      if (!of_step) walk.start(args, group.expert, first);
      if (!PairWalk<format, kColumns>::kBothEarly) walk.load_second(column_tiles);
    }
  }
  auto* const best = reinterpret_cast<uint64_t*>(scratch + 32);  // of the rows that a thread finishes
  if (of_step && args.best != nullptr && finishes) best[my_row] = 0;
  int buffer = 0;
  PairPlace place = first;
  GLIMPSE_NO_UNROLL
  for (int index = pairs.begin; index < pairs.end; index += pairs.step) {
    const int ahead = index + kGemvPairsAhead * pairs.step;
    if (ahead < pairs.end && args.asked == 0) prefetch_pair<format>(args, group.expert, ahead, kGemvThreads - 8);
    const Segment& s = args.segment[place.segment];
    const bool has_companions = of_step && index == pairs.begin && s.output != Output::kAdd;
    if (finishes && !has_companions) with = load_companions<1>(args, positions, s, place.pair, my_row, my_column);
    const PairPlace next = find_pair(args, pairs.step, place);
    float acc[2][kColumns] = {};
    if constexpr (planes_of(format).integer()) {
      multiply_pair<format, kColumns>(walk, column_tiles, layout, columns, group.n, acc);
      if (index + pairs.step < pairs.end && warp < column_tiles) {
        walk.go_on(args, group.expert, place, next);
        walk.load_first(column_tiles);
        if (!PairWalk<format, kColumns>::kBothEarly) walk.load_second(column_tiles);
      }
    } else {
      const PairTiles pair = pair_tiles(s, place.pair);
      const WeightView weight[2] = {weight_of(args, s, pair.matrix[0], group.expert),
                                    weight_of(args, s, pair.matrix[1], group.expert)};
      for (int kt = warp; kt < column_tiles; kt += kGemvWarps) {
        multiply_cells<format, kColumns>(weight, pair, kt, layout, columns, group.n, acc);
      }
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
    if (finishes) {
      float sum[2][1] = {{0}, {0}};
      GLIMPSE_UNROLL
      for (int w = 0; w < kGemvWarps; ++w) {
        const float* const from = partials + (buffer * kGemvWarps + w) * 2 * kColumns * kTileRows + thread_index();
        sum[0][0] += from[0];
        sum[1][0] += from[kColumns * kTileRows];
      }
      finish<1>(args, positions, s, place.pair, my_row, my_column, with, sum[0], sum[1]);
      if (of_step && args.best != nullptr) {
        GLIMPSE_UNROLL
        for (int h = 0; h < 2; ++h) {
          const int row = (2 * place.pair + h) * kTileRows + my_row;
          const uint64_t one = row < s.w[0].rows ? ranked(sum[h][0], row) : 0;
          if (best[my_row] < one) best[my_row] = one;
        }
      }
    }
    buffer ^= 1;
    place = next;
  }
  if (of_step && args.best != nullptr && warp == 0) publish_best(best, args.best);
}

template <Format format, int kColumns>
GLIMPSE_DEVICE void gemv_of(const LinearArgs& args, const PairRange& pairs) {
  constexpr bool of_step = kColumns == 1;
  if constexpr (of_step) launch_dependents();
  const bool chosen = args.experts.groups != nullptr;  // which weights is known when earlier kernels have ended
  ColumnGroup group;
  if (chosen) {
    if constexpr (of_step) dependency_wait();
    group = group_of<kColumns>(args, block_y());
    if (group.n <= 0) return;
  }
  // Others do not depend on what the previous kernel made: the first come now, the rest while columns are prepared.
  const PairPlace first = find_pair(args, pairs.begin);
  PairWalk<format, kColumns> walk;
  if constexpr (of_step && planes_of(format).integer()) {
    const int column_tiles = args.segment[0].w[0].column_tiles;
    if (pairs.begin < pairs.end && warp_index() < column_tiles) {
      walk.start(args, group.expert, first);
      walk.load_first(column_tiles);
    }
  }
  GLIMPSE_NO_UNROLL
  for (int i = 0, index = pairs.begin; index < pairs.end && i < kGemvPairsAhead && args.asked == 0;
       ++i, index += pairs.step) {
    prefetch_pair<format>(args, group.expert, index, 8 * i);
  }
  if constexpr (of_step) ask_ahead(args);
  if (!chosen) group = group_of<kColumns>(args, block_y());
  FirstColumn column;
  if constexpr (of_step) {
    column.norm = load_norm<format>(args, 8 * thread_index());
    column.x = elements_of(args, group.first);
    const Segment& s = args.segment[first.segment];
    if (thread_index() < kTileRows && pairs.begin < pairs.end && s.output != Output::kAdd) {
      column.with = load_companions<1>(args, step_positions(args, of_step), s, first.pair, thread_index(),
                                       place_of(args, group.first));
    }
    if (!chosen) dependency_wait();
    load_turns<format>(column.x, 0, args.k, column.v);
  }
  gemv_block<format, kColumns>(args, group, pairs, first, walk, column, shared());
}

/// Grid: x: blocks that share the pairs of all segments, y: groups of kColumns columns.
template <Format format, int kColumns>
GLIMPSE_DEVICE void gemv(const LinearArgs& args) {
  gemv_of<format, kColumns>(args, {block_x(), count_pairs_of(args, kMaxSegments), grid_x()});
}

/// One column and two formats: files often have some of Q, K and V in more bits, and a launch of their own would cost
/// as much as that of the others. Grid: x: args.first_blocks for the pairs of segments of the first format, which come
/// first, and others for those of the second.
template <Format first, Format second>
GLIMPSE_DEVICE void gemv_of_two(const LinearArgs& args) {
  const int n_first = count_pairs_of(args, args.n_first);
  if (block_x() < args.first_blocks) {
    gemv_of<first, 1>(args, {block_x(), n_first, args.first_blocks});
  } else {
    gemv_of<second, 1>(args, {n_first + block_x() - args.first_blocks, count_pairs_of(args, kMaxSegments),
                              grid_x() - args.first_blocks});
  }
}

}  // namespace glimpse::cuda
