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

#include "kernels/cuda/cache.cuh"
#include "kernels/cuda/cells.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/operand.cuh"

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

/// A lane prepares eight neighbouring columns at a time, a block kGemvTurn; so many turns of a row are loaded together.
constexpr int kGemvTurn = kGemvThreads * 8;
constexpr int kGemvTurns = 5;
/// Elements [at, at + 8) of a row of k floats; zeros from k on. at: a multiple of 8. For integer formats k is one, too,
/// and rows are aligned to 16 bytes.
template <Format format>
GLIMPSE_DEVICE void load_eight_of(const float* row, int at, int k, float (&out)[8]) {
  if (at + 8 <= k && (planes_of(format).integer() || reinterpret_cast<uintptr_t>(row) % sizeof(Vec16) == 0)) {
    load_eight(row + at, out);
    return;
  }
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) out[i] = !planes_of(format).integer() && at + i < k ? row[at + i] : 0.0f;
}

GLIMPSE_DEVICE bool norm_in_pieces(const LinearArgs& args) {
  return norm_width(args.norm, args.k) < args.k;
}
/// Weights of the norm of a lane's eight columns from `at` on.
struct NormEight {
  float weight[8];
};
template <Format format>
GLIMPSE_DEVICE NormEight load_norm(const LinearArgs& args, int at) {
  NormEight n{};
  if (args.norm.kind != NormKind::kNone && !norm_in_pieces(args)) {
    load_eight_of<format>(args.norm.weight, at, args.k, n.weight);
  }
  return n;
}

/// A lane's elements of kGemvTurns turns, the first of them `turn`.
template <Format format>
GLIMPSE_DEVICE void load_turns(const float* x, int turn, int k, float (&v)[kGemvTurns][8]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < kGemvTurns; ++i) {
    load_eight_of<format>(x, (turn + i) * kGemvTurn + 8 * thread_index(), k, v[i]);
  }
}

/// Mean and reciprocal deviation of a row in one piece. v: its first turns. Sums: each lane ascending over its
/// elements, then block_sum().
template <Format format>
GLIMPSE_DEVICE Moments row_moments(const float* x, const LinearArgs& args, const float (&v)[kGemvTurns][8],
                                   float* scratch) {
  const auto sum_over = [&](const auto& term) {
    float sum = 0;
    GLIMPSE_UNROLL
    for (int turn = 0; turn < kGemvTurns; ++turn) {
      const int at = turn * kGemvTurn + 8 * thread_index();
      if (at >= args.k) break;
      GLIMPSE_UNROLL
      for (int i = 0; i < 8; ++i) sum = term(v[turn][i], at + i, sum);
    }
    for (int at = kGemvTurns * kGemvTurn + 8 * thread_index(); at < args.k; at += kGemvTurn) {
      for (int i = 0; i < 8; ++i) sum = term(at + i < args.k ? x[at + i] : 0.0f, at + i, sum);
    }
    return block_sum(sum, scratch);
  };
  Moments m{0.0f, 1.0f};
  const float n = static_cast<float>(args.k);
  if (args.norm.kind == NormKind::kLayer)
    m.mean = sum_over([](float value, int, float sum) { return sum + value; }) / n;
  const float square = sum_over(
      [&](float value, int i, float sum) { return i < args.k ? fmaf(value - m.mean, value - m.mean, sum) : sum; });
  m.inverse = 1.0f / sqrtf(square / n + args.norm.eps);
  return m;
}

/// Eight floats of a lane as int8 with a scale per block of activations, into a record.
template <Format format>
GLIMPSE_DEVICE void quantize_eight(const float (&v)[8], int at, int k_padded, const GemvShared& layout,
                                   uint8_t* record) {
  constexpr Planes p = planes_of(format);
  constexpr uint32_t tiny_bits = 27u << 23;  // 2^-100: below it 127 / max could overflow
  constexpr uint32_t infinity_bits = 0x7f800000u;
  uint32_t max_bits = 0;  // magnitudes compare like their bits, NaN above infinity
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) {
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
  if (at >= k_padded) return;
  *reinterpret_cast<Vec8*>(record + at) = Vec8{{words[0], words[1]}};
  if (at % act_block(format) == 0) {
    reinterpret_cast<float*>(record + layout.scales_at)[at / act_block(format)] = scale;
  }
  if (at % p.sub == 0) reinterpret_cast<int*>(record + layout.sums_at)[at / p.sub] = sum;
}

/// Eight columns of a lane into a record.
template <Format format>
GLIMPSE_DEVICE void store_eight(const float (&v)[8], int at, int k_padded, const GemvShared& layout, uint8_t* record) {
  if constexpr (planes_of(format).integer()) {
    quantize_eight<format>(v, at, k_padded, layout, record);
  } else if (at < k_padded) {
    GLIMPSE_UNROLL
    for (int half = 0; half < 2; ++half) {
      Vec16 four;
      GLIMPSE_UNROLL
      for (int i = 0; i < 4; ++i) four.w[i] = float_to_bits(v[4 * half + i]);
      *reinterpret_cast<Vec16*>(reinterpret_cast<float*>(record) + permuted(at + 4 * half)) = four;
    }
  }
}

/// A row that is normalised in several pieces.
template <Format format>
GLIMPSE_DEVICE void prepare_pieces(const LinearArgs& args, const float* x, int k_padded, const GemvShared& layout,
                                   uint8_t* record, float* scratch) {
  const int width = args.norm.width;
  float* const pieces = scratch + 32;  // mean and inverse deviation of each
  for (int piece = 0; piece * width < args.k; ++piece) {
    const Moments m = moments(x + piece * width, args.norm, width, scratch);
    if (thread_index() == 0) pieces[2 * piece] = m.mean, pieces[2 * piece + 1] = m.inverse;
  }
  barrier();
  for (int turn = warp_index() * 256; turn < k_padded; turn += kGemvTurn) {
    float v[8];
    for (int i = 0; i < 8; ++i) {
      const int at = turn + 8 * lane_index() + i, piece = at / width;
      v[i] = at < args.k
                 ? normalized(x[at], args.norm, Moments{pieces[2 * piece], pieces[2 * piece + 1]}, at - piece * width)
                 : 0.0f;
    }
    store_eight<format>(v, turn + 8 * lane_index(), k_padded, layout, record);
  }
}

/// norm(x) of one column into a record of shared memory. All threads take part; a barrier must follow. first: of
/// load_norm() for this lane.
template <Format format>
GLIMPSE_DEVICE void prepare_column(const LinearArgs& args, const float* x, int k_padded, const NormEight& first,
                                   const GemvShared& layout, uint8_t* record, float* scratch) {
  if (norm_in_pieces(args)) {
    prepare_pieces<format>(args, x, k_padded, layout, record, scratch);
    return;
  }
  float v[kGemvTurns][8];
  load_turns<format>(x, 0, args.k, v);
  const bool has_norm = args.norm.kind != NormKind::kNone;
  const Moments m = has_norm ? row_moments<format>(x, args, v, scratch) : Moments{0.0f, 1.0f};
  GLIMPSE_NO_UNROLL
  for (int turn = 0; turn * kGemvTurn < k_padded; turn += kGemvTurns) {
    if (turn > 0) load_turns<format>(x, turn, args.k, v);
    GLIMPSE_UNROLL
    for (int t = 0; t < kGemvTurns; ++t) {
      const int at = (turn + t) * kGemvTurn + 8 * thread_index();
      if (at - 8 * lane_index() >= k_padded) break;  // whole warps: their lanes look for the greatest together
      if (has_norm) {
        const NormEight n = turn + t == 0 ? first : load_norm<format>(args, at);
        GLIMPSE_UNROLL
        for (int i = 0; i < 8; ++i) v[t][i] = (v[t][i] - m.mean) * m.inverse * n.weight[i];  // beyond k: zero
        if (args.norm.bias != nullptr) {
          float bias[8];
          load_eight_of<format>(args.norm.bias, at, args.k, bias);
          GLIMPSE_UNROLL
          for (int i = 0; i < 8; ++i) v[t][i] += bias[i];
        }
      }
      store_eight<format>(v[t], at, k_padded, layout, record);
    }
  }
}

/// acc[h][c] += the dot products of raw, the lane's cells of tiles h = 0, 1 in column tile kt, with column c.
template <Format format, int kColumns>
GLIMPSE_DEVICE void multiply_raw(const RawCell<format> (&raw)[2], int kt, const GemvShared& layout,
                                 const uint8_t* columns, float (&acc)[2][kColumns]) {
  constexpr Planes p = planes_of(format);
  const int cell = kt * 4 + lane_index() % 4;
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
}

/// The same for float formats, whose cells are loaded in parts.
template <Format format, int kColumns>
GLIMPSE_DEVICE void multiply_cells(const WeightView (&weight)[2], const PairTiles& pair, int kt,
                                   const GemvShared& layout, const uint8_t* columns, float (&acc)[2][kColumns]) {
  constexpr Planes p = planes_of(format);
  const int g = lane_index() / 4, t = lane_index() % 4;
  GLIMPSE_UNROLL
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

/// A lane's cells of the pairs that its block takes, one column tile of its warp after the other, loaded one ahead: the
/// next pair's first while the sums of this one are brought together.
template <Format format>
struct PairWalk {
  CellWalk<format, kGemvWarps> cell[2];
  RawCell<format> ahead[2];

  GLIMPSE_DEVICE void start(const LinearArgs& args, int expert, int index) {
    const PairPlace place = find_pair(args, index);
    const Segment& s = args.segment[place.segment];
    const PairTiles pair = pair_tiles(s, place.pair);
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) {
      cell[h].start(weight_of(args, s, pair.matrix[h], expert), pair.tile[h], warp_index(), lane_index() / 4,
                    lane_index() % 4);
    }
  }
  GLIMPSE_DEVICE void next() {
    cell[0].next(0);
    cell[1].next(0);
  }
  GLIMPSE_DEVICE void load() {
    cell[0].template load<true>(0, ahead[0]);
    cell[1].template load<true>(0, ahead[1]);
  }
};
template <Format format>
requires(!planes_of(format).integer()) struct PairWalk<format> {
};

GLIMPSE_DEVICE int count_pairs_of(const LinearArgs& args) {
  int n_pairs = 0;
  for (int i = 0; i < args.n_segments; ++i) n_pairs += args.segment[i].n_pairs;
  return n_pairs;
}

/// Pairs ahead of the one at hand whose weights a block has asked for.
constexpr int kGemvPairsAhead = 5;

/// Asks for all planes of a running pair number to be brought into L2: threads `first` to `first` + 7 of the block, or
/// all where the architecture has no instruction for it.
template <Format format>
GLIMPSE_DEVICE void prefetch_pair(const LinearArgs& args, int expert, int index, int first) {
  constexpr Planes p = planes_of(format);
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

/// By one warp: the greatest of its rows' values counts for all blocks.
GLIMPSE_DEVICE void publish_best(const uint64_t* best, uint64_t* of_all) {
  warp_barrier();
  if (lane_index() != 0) return;
  uint64_t most = 0;
  for (int row = 0; row < kTileRows; ++row) most = most < best[row] ? best[row] : most;
  atomic_max(of_all, most);
}

/// The products themselves. at: x: block of those that share the pairs of all segments.
template <Format format, int kColumns>
GLIMPSE_DEVICE void gemv_block(const LinearArgs& args, const BlockIndex& at, const ColumnGroup& group,
                               const NormEight& norm, uint8_t* columns) {
  const int column_tiles = args.segment[0].w[0].column_tiles;
  const GemvShared layout = gemv_shared(format, kColumns, column_tiles);
  constexpr bool of_step = kColumns == 1;  // of one row; products of steps of several rotate and store nothing
  auto* const partials = reinterpret_cast<float*>(columns + layout.partials_at);
  auto* const scratch = reinterpret_cast<float*>(columns + layout.scratch_at);
  const int lane = lane_index(), warp = warp_index(), g = lane / 4, t = lane % 4;
  const int n_pairs = count_pairs_of(args);
  for (int c = 0; c < kColumns; ++c) {
    // A block of fewer columns computes the last one several times and stores it once.
    const ColumnPlace from = place_of(args, group.first + (c < group.n ? c : group.n - 1));
    const float* const x = args.x + from.row * args.ld_x + from.slot * args.experts.slot_ld_x;
    prepare_column<format>(args, x, column_tiles * kTileColumns, norm, layout, columns + c * layout.record, scratch);
    barrier();
  }

  PairWalk<format> walk;
  if constexpr (planes_of(format).integer()) {
    if (at.x < n_pairs && warp < column_tiles) {
      walk.start(args, group.expert, at.x);
      walk.load();
    }
  }
  const RowPositions positions{args.at.n_past, of_step ? args.at.steps : nullptr};
  const int my_row = thread_index() % kTileRows;
  const bool finishes = thread_index() < group.n * kTileRows;
  const ColumnPlace my_column = finishes ? place_of(args, group.first + thread_index() / kTileRows) : ColumnPlace{};
  auto* const best = reinterpret_cast<uint64_t*>(scratch + 32);  // of the rows that a thread finishes
  if (of_step && args.best != nullptr && finishes) best[my_row] = 0;
  int buffer = 0;
  GLIMPSE_NO_UNROLL
  for (int index = at.x; index < n_pairs; index += at.grid_x) {
    const int ahead = index + kGemvPairsAhead * at.grid_x;
    if (ahead < n_pairs) prefetch_pair<format>(args, group.expert, ahead, kGemvThreads - 8);
    const PairPlace place = find_pair(args, index);
    const Segment& s = args.segment[place.segment];
    Companions<1> with{};
    if (finishes) with = load_companions<1>(args, positions, s, place.pair, my_row, my_column);
    float acc[2][kColumns] = {};
    if constexpr (planes_of(format).integer()) {
      GLIMPSE_NO_UNROLL
      for (int kt = warp; kt < column_tiles; kt += kGemvWarps) {
        const RawCell<format> raw[2] = {walk.ahead[0], walk.ahead[1]};
        if (kt + kGemvWarps < column_tiles) {
          walk.next();
          walk.load();
        }
        multiply_raw<format, kColumns>(raw, kt, layout, columns, acc);
      }
      if (index + at.grid_x < n_pairs && warp < column_tiles) {
        walk.start(args, group.expert, index + at.grid_x);
        walk.load();
      }
    } else {
      const PairTiles pair = pair_tiles(s, place.pair);
      const WeightView weight[2] = {weight_of(args, s, pair.matrix[0], group.expert),
                                    weight_of(args, s, pair.matrix[1], group.expert)};
      for (int kt = warp; kt < column_tiles; kt += kGemvWarps) {
        multiply_cells<format, kColumns>(weight, pair, kt, layout, columns, acc);
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
  }
  if (of_step && args.best != nullptr && warp == 0) publish_best(best, args.best);
}

/// Grid: x: blocks that share the pairs of all segments, y: groups of kColumns columns.
template <Format format, int kColumns>
GLIMPSE_DEVICE void gemv(const LinearArgs& args) {
  constexpr bool of_step = kColumns == 1;
  if constexpr (of_step) launch_dependents();
  const bool chosen = args.experts.groups != nullptr;  // which weights is known when earlier kernels have ended
  ColumnGroup group;
  if (chosen) {
    if constexpr (of_step) dependency_wait();
    group = group_of<kColumns>(args, block_y());
    if (group.n <= 0) return;
  }
  // Others do not depend on what the previous kernel made: they come while the columns are prepared.
  const int n_pairs = count_pairs_of(args);
  GLIMPSE_NO_UNROLL
  for (int i = 0, index = block_x(); index < n_pairs && i < kGemvPairsAhead; ++i, index += grid_x()) {
    prefetch_pair<format>(args, group.expert, index, 8 * i);
  }
  const NormEight norm = load_norm<format>(args, 8 * thread_index());
  if (!chosen) {
    if constexpr (of_step) dependency_wait();
    group = group_of<kColumns>(args, block_y());
  }
  gemv_block<format, kColumns>(args, this_block(), group, norm, shared());
}

}  // namespace glimpse::cuda
