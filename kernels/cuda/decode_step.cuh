// A decode step as one launch that stays: what a recording holds as launches, here as phases in device memory that all
// blocks of a cooperative launch go through together. The bodies are those of the launches, so the bits are, too.
//
// Between phases a block says that it is done (release), asks for the weights of its next products and waits until all
// blocks that had work in the phase before have said so (acquire). So the memory goes on delivering while blocks wait
// for one another. Counters never go back: a launch waits for its epoch's share.
#pragma once

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.cuh"

namespace glimpse::cuda {

constexpr int kStepThreads = kGemvThreads;
constexpr int kStepParts = kStepThreads / kAttendThreads;
static_assert(kStepThreads % kAttendThreads == 0);

/// Offsets in shared memory: two phases, a flag and the epoch, then what a phase's body needs.
constexpr int kStepFlagAt = 2 * static_cast<int>(sizeof(StepPhase));
constexpr int kStepBodyAt = kStepFlagAt + 128;
static_assert(sizeof(StepPhase) % 128 == 0);

GLIMPSE_DEVICE void load_phase(const DecodeStepArgs& args, int number, StepPhase* to) {
  const auto* const from = reinterpret_cast<const Vec16*>(args.phases + number);
  auto* const words = reinterpret_cast<Vec16*>(to);
  for (int i = thread_index(); i < static_cast<int>(sizeof(StepPhase) / sizeof(Vec16)); i += kStepThreads) {
    words[i] = from[i];
  }
}

/// Asks for the first n_bytes or so of the weights that this block multiplies with in a phase.
template <Format format>
GLIMPSE_DEVICE void prefetch_pairs(const LinearArgs& args, int n_blocks, int n_bytes) {
  const int n_pairs = count_pairs_of(args);
  const int pair_bytes = 2 * kCellsPerTile * planes_of(format).low_bytes() * args.segment[0].w[0].column_tiles;
  for (int index = block_x(); index < n_pairs && n_bytes > 0; index += n_blocks, n_bytes -= pair_bytes) {
    prefetch_pair<format>(args, index, 0);
  }
}
GLIMPSE_DEVICE void prefetch_phase(const StepPhase& phase, int n_bytes) {
  if (block_x() >= phase.n_blocks) return;
  switch (static_cast<Kernel>(phase.kernel)) {
#define GLIMPSE_CUDA_FORMAT(name, format)                                  \
  case Kernel::gemv_##name##_1:                                            \
    prefetch_pairs<Format::format>(phase.linear, phase.n_blocks, n_bytes); \
    break;
#include "kernels/cuda/formats.inc"
#undef GLIMPSE_CUDA_FORMAT
    default:
      break;
  }
}

/// Parts of blocks take the blocks of an attention launch: first one for each block, then a second.
template <typename T, int kHeads>
GLIMPSE_DEVICE_CALL void attend_phase(const StepPhase& phase, uint8_t* memory) {
  const AttentionArgs& args = phase.attention;
  const AttendPart part{thread_index() / kAttendThreads};
  const int bytes = attend_shared(kHeads, args.kv.padded_dim).total;
  memory += part.number * ((bytes + 15) / 16 * 16);
  const int n = phase.grid[0] * phase.grid[1] * phase.grid[2];
  for (int i = part.number * phase.n_blocks + block_x(); i < n; i += kStepParts * phase.n_blocks) {
    const BlockIndex at{i % phase.grid[0], i / phase.grid[0] % phase.grid[1], i / phase.grid[0] / phase.grid[1],
                        phase.grid[0]};
    attend_row<T, kHeads>(args, at, part, memory);
    part.wait();  // its memory is free
  }
}

/// Products of one column with float weights, which take the most registers.
template <Format format>
GLIMPSE_DEVICE_CALL void multiply_floats(const StepPhase& phase, uint8_t* memory) {
  gemv_block<format, 1>(phase.linear, BlockIndex{block_x(), 0, 0, phase.n_blocks},
                        load_norm<format>(phase.linear, 8 * thread_index()), memory);
}
template <Format format>
GLIMPSE_DEVICE void multiply_phase(const StepPhase& phase, uint8_t* memory) {
  if constexpr (planes_of(format).integer()) {
    gemv_block<format, 1>(phase.linear, BlockIndex{block_x(), 0, 0, phase.n_blocks},
                          load_norm<format>(phase.linear, 8 * thread_index()), memory);
  } else {
    multiply_floats<format>(phase, memory);
  }
}

GLIMPSE_DEVICE void run_phase(const StepPhase& phase, uint8_t* memory) {
  switch (static_cast<Kernel>(phase.kernel)) {
#define GLIMPSE_CUDA_FORMAT(name, format)                                                                              \
  case Kernel::gemv_##name##_1:                                                                                        \
    multiply_phase<Format::format>(phase, memory);                                                                     \
    break;                                                                                                             \
  case Kernel::embed_##name:                                                                                           \
    for (int row = block_x(); row < phase.grid[0]; row += phase.n_blocks) embed_row<Format::format>(phase.embed, row); \
    break;
#include "kernels/cuda/formats.inc"
#undef GLIMPSE_CUDA_FORMAT
    case Kernel::attend_rows_bf16_1:
      attend_phase<Bf16, 1>(phase, memory);
      break;
    case Kernel::attend_rows_bf16_4:
      attend_phase<Bf16, 4>(phase, memory);
      break;
    case Kernel::attend_rows_f16_1:
      attend_phase<Half, 1>(phase, memory);
      break;
    case Kernel::attend_rows_f16_4:
      attend_phase<Half, 4>(phase, memory);
      break;
    case Kernel::attend_rows_f32_1:
      attend_phase<float, 1>(phase, memory);
      break;
    case Kernel::attend_rows_q8_1:
      attend_phase<Q8, 1>(phase, memory);
      break;
    case Kernel::attend_rows_q8_4:
      attend_phase<Q8, 4>(phase, memory);
      break;
    case Kernel::rope_rows:
      for (int row = block_x(); row < phase.grid[0]; row += phase.n_blocks) rope_row(phase.rope, row);
      break;
    case Kernel::store_q8:
      for (int row = block_x(); row < phase.grid[0]; row += phase.n_blocks) store_q8_row(phase.rope, row);
      break;
    case Kernel::swiglu_rows:
      for (int row = block_x(); row < phase.grid[0]; row += phase.n_blocks) swiglu_row(phase.swiglu, row);
      break;
    default:
      break;
  }
}

/// Grid: x: blocks, all there at once. Shared: kStepBodyAt + the most that a phase needs.
GLIMPSE_DEVICE void decode_step(const DecodeStepArgs& args) {
  auto* const slots = reinterpret_cast<StepPhase*>(shared());
  auto* const go_on = reinterpret_cast<int*>(shared() + kStepFlagAt);
  auto* const epoch = reinterpret_cast<uint32_t*>(go_on + 1);
  if (thread_index() == 0) *epoch = *args.epoch + 1;  // until all blocks have left, nobody changes it
  load_phase(args, 0, slots);
  barrier();
  prefetch_phase(slots[0], args.prefetch_bytes);
  GLIMPSE_NO_UNROLL
  for (int number = 0; number < args.n_phases; ++number) {
    const StepPhase& phase = slots[number % 2];
    if (block_x() < phase.n_blocks) {
      if (number > 0) {
        if (thread_index() == 0) {
          *go_on = wait_for_count(args.arrived + number - 1, *epoch * static_cast<uint32_t>(phase.n_blocks_before),
                                  args.given_up, number)
                       ? 1
                       : 0;
          fence();
        }
        barrier();
        if (*go_on == 0) return;
      }
      run_phase(phase, shared() + kStepBodyAt);
    }
    barrier();  // what the block wrote goes before its arrival; the other slot and the memory are free
    if (thread_index() == 0 && block_x() < phase.n_blocks) {
      fence();
      arrive(args.arrived + number);
    }
    if (number + 1 < args.n_phases) {
      load_phase(args, number + 1, slots + (number + 1) % 2);
      barrier();
      prefetch_phase(slots[(number + 1) % 2], args.prefetch_bytes);
    }
  }
  // Nobody reads the epoch of this launch any more when the last block leaves.
  if (thread_index() == 0 && atomic_add(args.left, 1) == grid_x() - 1) {
    *args.left = 0;
    ++*args.epoch;
  }
}

}  // namespace glimpse::cuda
