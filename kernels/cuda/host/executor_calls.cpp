#include <algorithm>
#include <cstring>

#include "kernels/cuda/host/executor_impl.h"

namespace glimpse::cuda::host {

namespace {
// Of 16 bytes of the block's shared memory.
size_t chunk_of(const void* in_shared) {
  return static_cast<size_t>(static_cast<const uint8_t*>(in_shared) - t_current.shared) / 16;
}
}  // namespace

// The running thread waits; returns when it has been let go.
void Executor::Impl::pause(Wait wait) {
  Fiber& fiber = me();
  fiber.wait = wait;
  fiber_switch(fiber.context, scheduler, false);
}

// All lanes of the warp bring an operand; the last one performs; each goes on with its own.
template <typename T, typename Perform>
T Executor::Impl::meet(Wait kind, const T& mine, Perform perform) {
  const int mine_of = t_current.thread, lane = mine_of % kWarpSize, first = running - lane;
  Warp& warp = block->warps[static_cast<size_t>(mine_of / kWarpSize)];
  const uint32_t generation = warp.generation;
  operand<T>(warp, generation, lane) = mine;
  me().wait = kind;
  if (++warp.arrived < kWarpSize) {
    pause(kind);
    return operand<T>(warp, generation, lane);
  }
  // Everybody is here: if not for the same thing, they stay, and the scheduler finds that nobody can go on.
  for (int i = 0; i < kWarpSize; ++i) {
    if (fibers[static_cast<size_t>(first + i)].wait != kind) pause(kind);
  }
  perform(warp, generation);
  warp.arrived = 0;
  ++warp.generation;
  for (int i = 0; i < kWarpSize; ++i) fibers[static_cast<size_t>(first + i)].wait = Wait::kNothing;
  return operand<T>(warp, generation, lane);
}

void block_barrier() {
  ++t_impl->block->at_barrier;
  t_impl->pause(Wait::kBarrier);
}

void part_barrier(int number, int n) {
  Executor::Impl& impl = *t_impl;
  if (number < 1 || number >= kParts || n % kWarpSize != 0) fail("a part barrier with a number or count that is none");
  impl.me().part = number;
  if (++impl.block->at_part[number] < n) {
    impl.pause(Wait::kPart);
    return;
  }
  impl.block->at_part[number] = 0;
  for (int i = 0; i < impl.n_threads; ++i) {
    Fiber& fiber = impl.fiber_of(*impl.block, i);
    if (fiber.wait == Wait::kPart && fiber.part == number) fiber.wait = Wait::kNothing;
  }
}

bool Executor::Impl::all_wait(const Block& of) const {
  if (of.n_waits < n_threads) return false;
  early->waited();
  return true;
}

void dependency_wait() {
  Executor::Impl& impl = *t_impl;
  if (impl.me().waited) return;
  impl.me().waited = true;
  ++impl.block->n_waits;
  if (impl.early == nullptr) return;
  wait_until([](void* argument) { return t_impl->all_wait(*static_cast<const Executor::Impl::Block*>(argument)); },
             impl.block, "the others of the block to wait for earlier launches");
}

void prefetch(const void* from, int n_bytes) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0 || n_bytes <= 0 || n_bytes % 16 != 0) {
    fail("asks for what is no whole pieces of 16 bytes");
  }
  // A sanitizer sees whether they are there.
  const auto* const bytes = static_cast<const volatile uint8_t*>(from);
  (void)bytes[0];
  (void)bytes[n_bytes - 1];
}

// Whether all threads that have not ended are there, which then have met once more.
bool Executor::Impl::cluster_meets() {
  if (at_cluster < n_live) return false;
  at_cluster = 0;
  ++meetings;
  return true;
}

void cluster_arrive() {
  Executor::Impl& impl = *t_impl;
  Fiber& fiber = impl.me();
  if (fiber.at_cluster) fail("arrives at the barrier of the cluster again without having waited for it");
  fiber.at_cluster = true;
  fiber.met = impl.meetings;
  ++impl.at_cluster;
}

void cluster_wait() {
  Fiber& fiber = t_impl->me();
  if (!fiber.at_cluster) fail("waits for the barrier of the cluster without having arrived");
  wait_until(
      [](void* argument) {
        const auto& of = *static_cast<const Fiber*>(argument);
        return t_impl->meetings > of.met || t_impl->cluster_meets();
      },
      &fiber, "the barrier of the cluster");
  fiber.at_cluster = false;
  ++fiber.met;
}

uint64_t cluster_meetings() {
  return t_impl->meetings;
}

uint64_t cluster_meetings_seen() {
  return t_impl->me().met;
}

const Current& block_of_cluster(int rank) {
  const std::vector<Executor::Impl::Block>& blocks = *t_impl->blocks;
  if (rank < 0 || rank >= t_current.cluster) fail("a block that the cluster does not have");
  const Executor::Impl::Block& block = blocks[static_cast<size_t>(rank)];
  if (block.n_live == 0) fail("reaches into a block of the cluster that has ended");
  return block.where;
}

void warp_barrier() {
  t_impl->meet(Wait::kWarp, ShuffleOperand{}, [](Warp&, uint32_t) {});
}

uint32_t shuffle(uint32_t value, int from_lane) {
  return t_impl->meet(Wait::kShuffle, ShuffleOperand{value, from_lane}, shuffle_values).value;
}

uint32_t ballot(bool predicate) {
  return t_impl->meet(Wait::kBallot, ShuffleOperand{predicate ? 1u : 0u, 0}, collect_votes).value;
}

void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float (*value)(uint32_t bits)) {
  MmaOperand mine{};
  std::copy_n(a, 4, mine.a);
  std::copy_n(b, 2, mine.b);
  std::copy_n(c, 4, mine.c);
  mine = t_impl->meet(Wait::kMma, mine, [value](Warp& warp, uint32_t g) { multiply_fragments(warp, g, value); });
  std::copy_n(mine.c, 4, c);
}

void load_matrices(uint32_t (&out)[4], const void* row, bool transposed) {
  const Wait kind = transposed ? Wait::kMatricesTransposed : Wait::kMatrices;
  const MatricesOperand mine = t_impl->meet(
      kind, MatricesOperand{row, {}}, [transposed](Warp& warp, uint32_t g) { gather_matrices(warp, g, transposed); });
  std::copy_n(mine.out, 4, out);
}

void copy_later(void* to, const void* from, bool valid) {
  const auto* const bytes = static_cast<const uint8_t*>(to);
  if (bytes < t_current.shared || bytes + 16 > t_current.shared + t_current.shared_bytes) {
    fail("a copy to outside of shared memory");
  }
  Fiber& fiber = t_impl->me();
  Copy copy{to, {}, fiber.open_group};
  if (valid) std::memcpy(copy.bytes, from, sizeof copy.bytes);
  fiber.copies.push_back(copy);
}

void close_copies() {
  ++t_impl->me().open_group;
}

void wait_copies(int pending) {
  Fiber& fiber = t_impl->me();
  const auto done = [&](const Copy& copy) { return copy.group < fiber.open_group - pending; };
  std::vector<bool>& unfenced = t_impl->block->unfenced;
  unfenced.resize(chunk_of(t_current.shared + t_current.shared_bytes) + 1);
  for (const Copy& copy : fiber.copies) {
    if (!done(copy)) continue;
    std::memcpy(copy.to, copy.bytes, sizeof copy.bytes);
    fiber.unfenced.push_back(chunk_of(copy.to));
    unfenced[chunk_of(copy.to)] = true;
  }
  std::erase_if(fiber.copies, done);
}

bool copied_without_fence(const void* in_shared) {
  const std::vector<bool>& unfenced = t_impl->block->unfenced;
  return !unfenced.empty() && unfenced[chunk_of(in_shared)];
}

void shared_fence() {
  Fiber& fiber = t_impl->me();
  for (const size_t chunk : fiber.unfenced) t_impl->block->unfenced[chunk] = false;
  fiber.unfenced.clear();
}

void wait_until(bool (*ready)(void*), void* argument, const char* what) {
  if (ready(argument)) return;
  Fiber& fiber = t_impl->me();
  fiber.ready = ready;
  fiber.argument = argument;
  fiber.what = what;
  t_impl->pause(Wait::kCondition);
}

void fail(const char* what) {
  t_impl->failure = what;
  for (;;) t_impl->pause(Wait::kEnd);
}

}  // namespace glimpse::cuda::host
