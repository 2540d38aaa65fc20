// Long reductions of products of warpgroups: sums of chunks of k, added in ascending order. One block adds them, or
// each chunk has a block and the last that is done adds: the bits are the same, so that few columns, whose blocks would
// leave most of a device idle, may be shared out more widely.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/layer.h"

namespace glimpse::cuda {

/// The column tiles that a block multiplies, and how many of them are a chunk.
struct TileRange {
  int begin, end, chunk;
};
GLIMPSE_DEVICE TileRange tile_range(const LinearArgs& args, const Segment& s) {
  const int n = s.w[0].column_tiles, chunk = args.chunk_tiles > 0 ? args.chunk_tiles : n;
  if (args.n_splits <= 1) return {0, n, chunk};
  const int begin = block_z() * chunk;
  return {begin, begin + chunk < n ? begin + chunk : n, chunk};
}

/// A chunk is done. acc: a thread's sums over it, which become zero; sum: over all that are done, of which this may be
/// the first.
template <int n>
GLIMPSE_DEVICE void close_chunk(float (&sum)[n], float (&acc)[n], bool first) {
  GLIMPSE_UNROLL
  for (int i = 0; i < n; ++i) {
    sum[i] = first ? acc[i] : sum[i] + acc[i];
    acc[i] = 0;
  }
}
/// acc: of the last chunk, which was not the first; becomes the sum of all.
template <int n>
GLIMPSE_DEVICE void add_chunks(const float (&sum)[n], float (&acc)[n]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < n; ++i) acc[i] = sum[i] + acc[i];
}

/// Results of a block of `columns` over its chunk, in shared memory as finish_block() has them, become those of all
/// chunks: true. False: another block will have them. wait: a barrier of the kThreads threads, which has passed since
/// the results were stored. args.n_splits == 1: they are what they are.
template <int kColumns, int kPairs, int kThreads, typename Wait>
GLIMPSE_DEVICE bool merge_chunks(const LinearArgs& args, int columns, float* results, int stride, const Wait& wait) {
  if (args.n_splits <= 1) return true;
  constexpr int kRows = kPairs * 16, kQuads = kRows / 4;
  const int tile = block_y() * grid_x() + block_x(), n_chunks = args.n_splits;
  float* const partial = args.partial + static_cast<int64_t>(tile) * n_chunks * kColumns * kRows;
  const auto place = [&](int i) { return results + i / kQuads * stride + i % kQuads * 4; };
  auto* const mine = reinterpret_cast<Vec16*>(partial + block_z() * kColumns * kRows);
  GLIMPSE_UNROLL_BY(4)
  for (int i = thread_index(); i < columns * kQuads; i += kThreads) mine[i] = *reinterpret_cast<const Vec16*>(place(i));
  wait();
  if (thread_index() == 0) {
    int* const ticket = args.tickets + tile;
    const bool last = take_ticket(ticket) == n_chunks - 1;
    results[0] = last ? 1.0f : 0.0f;
    if (last) *ticket = 0;  // as the next launch expects it
  }
  wait();
  const bool last = results[0] != 0;
  wait();  // everybody has seen it
  if (!last) return false;
  GLIMPSE_UNROLL_BY(2)
  for (int i = thread_index(); i < columns * kQuads; i += kThreads) {
    float sum[4], next[4];
    load_rows<4>(partial + 4 * i, 4, sum);
    GLIMPSE_UNROLL_BY(8)
    for (int c = 1; c < n_chunks; ++c) {
      load_rows<4>(partial + c * kColumns * kRows + 4 * i, 4, next);
      GLIMPSE_UNROLL
      for (int j = 0; j < 4; ++j) sum[j] += next[j];
    }
    store_rows<4>(place(i), 4, sum);
  }
  wait();
  return true;
}

}  // namespace glimpse::cuda
