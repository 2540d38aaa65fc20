// Networks of experts: which of them each row goes through, and the columns that this makes of the rows. The choice
// stays on the device: products of experts have blocks for the groups of any choice, and those that it leaves empty end
// at once. So a recorded step serves every token, and each chosen expert's weights are read for all its columns
// together.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/epilogue.cuh"

namespace glimpse::cuda {

/// The greatest over the lanes of a warp, the same in each.
GLIMPSE_DEVICE uint64_t warp_max(uint64_t value) {
  uint32_t high = static_cast<uint32_t>(value >> 32);
  GLIMPSE_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const uint32_t other = shuffle_xor(high, mask);
    high = other > high ? other : high;
  }
  uint32_t low = static_cast<uint32_t>(value >> 32) == high ? static_cast<uint32_t>(value) : 0u;
  GLIMPSE_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const uint32_t other = shuffle_xor(low, mask);
    low = other > low ? other : low;
  }
  return static_cast<uint64_t>(high) << 32 | low;
}

/// Greater scores have greater keys, of equal ones (0 and -0 are) lower numbers. Not of NaN. None is 0.
GLIMPSE_DEVICE uint64_t score_key(float score, int expert) {
  return static_cast<uint64_t>(sort_key(score + 0.0f)) << 32 | (0xffffffffu - static_cast<uint32_t>(expert));
}

/// A row by one warp, as choose_experts() of engine/runtime/routing.h does it: the numbers ascending, their weights
/// softmax(scores), made to add up to 1 if so wanted. Sums: each lane ascending over its experts, then warp_sum().
GLIMPSE_DEVICE void choose_row(const RouteArgs& args, int row) {
  const float* const scores = args.scores + row * args.ld_scores;
  float *const numbers = args.expert + row * args.ld_expert, *const weight = args.weight + row * args.ld_weight;
  const int lane = lane_index(), n = args.n_experts;
  float highest = -INFINITY, total = 0;
  bool bad = false;
  for (int e = lane; e < n; e += kWarp) {
    bad |= scores[e] != scores[e];
    highest = fmaxf(highest, scores[e]);
  }
  bad = ballot(bad) != 0;
  highest = warp_max(highest);
  for (int e = lane; e < n; e += kWarp) total += expf(scores[e] - highest);
  total = warp_sum(total);
  // The key of the last one taken: experts of lower keys are not.
  uint64_t last = ~uint64_t{0};
  for (int i = 0; i < args.n_used && !bad; ++i) {
    uint64_t best = 0;
    for (int e = lane; e < n; e += kWarp) {
      const uint64_t key = score_key(scores[e], e);
      if (key < last && key > best) best = key;
    }
    last = warp_max(best);
  }
  // With NaN among the scores: some experts, whose weights are NaN because the total is.
  const auto is_chosen = [&](int e) { return e < n && (bad ? e < args.n_used : score_key(scores[e], e) >= last); };
  const auto share = [&](int e) { return expf(scores[e] - highest) / total; };
  float used = 0;
  for (int e = lane; e < n; e += kWarp) {
    if (is_chosen(e)) used += share(e);
  }
  used = args.normalize != 0 ? warp_sum(used) : 1.0f;
  int taken = 0;
  for (int first = 0; first < n; first += kWarp) {
    const int e = first + lane;
    const bool chosen = is_chosen(e);
    const uint32_t all = ballot(chosen);
    if (chosen) {
      const int at = taken + count_bits(all & ((1u << lane) - 1));
      numbers[at] = static_cast<float>(e);
      weight[at] = share(e) / used;
    }
    taken += count_bits(all);
  }
  if (args.shared != 0 && lane == 0) weight[args.n_used] = 1.0f / (1.0f + expf(-weight[args.n_used]));
}

/// Sorts (row, slot) by expert, by one block: columns of one expert in any order, for none depends on another. Shared
/// memory: route_shared_bytes().
GLIMPSE_DEVICE void sort_columns(const RouteArgs& args) {
  const int n_experts = args.n_experts, total = args.n * args.n_used;
  const auto expert_of = [&](int i) {
    return static_cast<int>(args.expert[i / args.n_used * args.ld_expert + i % args.n_used]);
  };
  if (args.group_columns == 1) {  // of one row
    for (int i = thread_index(); i < total; i += n_threads()) {
      args.places[i] = {0, i};
      args.groups[i] = {expert_of(i), i, 1};
    }
    return;
  }
  int* const count = reinterpret_cast<int*>(shared());
  int* const next = count + n_experts;
  for (int e = thread_index(); e < n_experts; e += n_threads()) count[e] = 0;
  for (int i = thread_index(); i < args.n_columns; i += n_threads()) args.places[i] = {-1, 0};
  for (int i = thread_index(); i < args.n_groups; i += n_threads()) args.groups[i] = {};
  barrier();
  for (int i = thread_index(); i < total; i += n_threads()) atomic_add(count + expert_of(i), 1);
  barrier();
  for (int e = thread_index(); e < n_experts; e += n_threads()) {
    int column = 0, group = 0;
    for (int before = 0; before < e; ++before) {
      column += (count[before] + args.align - 1) / args.align * args.align;
      group += (count[before] + args.group_columns - 1) / args.group_columns;
    }
    next[e] = column;
    for (int first = 0; first < count[e]; first += args.group_columns) {
      const int left = count[e] - first;
      args.groups[group++] = {e, column + first, left < args.group_columns ? left : args.group_columns};
    }
  }
  barrier();
  for (int i = thread_index(); i < total; i += n_threads()) {
    args.places[atomic_add(next + expert_of(i), 1)] = {i / args.n_used, i % args.n_used};
  }
}

/// Grid: x: rows_blocks(). Few rows, which have one block, are sorted, too.
GLIMPSE_DEVICE void choose_experts(const RouteArgs& args) {
  launch_dependents();
  dependency_wait();
  const int row = block_x() * (n_threads() / kWarp) + warp_index();
  if (row < args.n) choose_row(args, row);
  if (grid_x() > 1) return;
  barrier();
  sort_columns(args);
}

}  // namespace glimpse::cuda
