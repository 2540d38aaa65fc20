// What the executor knows of the launch that runs, for its two halves: executor.cpp gives threads their turns,
// executor_calls.cpp is what threads call.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/host/executor.h"
#include "kernels/cuda/host/fiber.h"
#include "kernels/cuda/host/warp.h"

namespace glimpse::cuda::host {

constexpr int kParts = 16;

enum class Wait {
  kNothing,
  kBarrier,
  kPart,
  kWarp,
  kShuffle,
  kBallot,
  kMma,
  kMatrices,
  kMatricesTransposed,
  kCondition,
  kEnd
};

struct Copy {
  void* to;
  std::byte bytes[16];
  int group;
};

struct Fiber {
  FiberContext context;
  Wait wait = Wait::kNothing;
  uint32_t generation = 0;                  // of the meeting it waits for
  bool (*ready)(void* argument) = nullptr;  // kCondition
  void* argument = nullptr;
  const char* what = "";
  int part = 0;  // kPart
  std::vector<Copy> copies;
  std::vector<size_t> unfenced;  // chunks of 16 bytes of shared memory that its copies reached
  int open_group = 0;
  bool waited = false;      // said dependency_wait()
  bool at_cluster = false;  // arrived at the barrier of the cluster and has not waited for it
  uint64_t met = 0;         // how often the cluster had met when it arrived, or when it had waited
};

struct Executor::Impl {
  // A block of which some threads may be under way.
  struct Block {
    Current where;
    int first = 0;  // its threads' fibers
    std::vector<Warp> warps;
    int n_live = 0, at_barrier = 0, n_waits = 0;
    int at_part[kParts] = {};
    std::vector<bool> unfenced;  // by chunks of 16 bytes; empty without copies
  };

  Impl(Order o, uint64_t seed) : order(o), random(seed * 2 + 1) {}
  ~Impl();

  Status grow(int64_t n_fibers);
  Block begin_block(const Shape& shape, int number, uint8_t* shared);
  bool cluster_meets();
  Status run_blocks(const char* kernel, const Shape& shape, std::vector<Block>& of_cluster);
  Status give_turns(const char* kernel, Block& of, const std::vector<int>& order_of, bool& progress);
  Error deadlock(const char* kernel, const std::vector<Block>& of_cluster) const;
  std::string what_threads_wait_for(const Block& of) const;
  void enter(Block& of, int thread);
  void pause(Wait wait);
  bool all_wait(const Block& of) const;
  std::vector<int> turns(int n);
  template <typename T, typename Perform>
  T meet(Wait kind, const T& mine, Perform perform);

  Fiber& fiber_of(const Block& of, int thread) { return fibers[static_cast<size_t>(of.first + thread)]; }
  Fiber& me() { return fibers[static_cast<size_t>(running)]; }

  Order order;
  uint64_t random;
  std::byte* stacks = nullptr;
  size_t stacks_bytes = 0;
  std::vector<Fiber> fibers;
  FiberContext scheduler;
  void (*body)(const void*) = nullptr;
  const void* args = nullptr;
  Early* early = nullptr;
  Block* block = nullptr;                // of the thread that runs
  std::vector<Block>* blocks = nullptr;  // of the cluster that runs
  int n_live = 0, at_cluster = 0;        // threads of these that have not ended; of which at their barrier
  uint64_t meetings = 0;                 // of the cluster
  int running = 0;                       // its fiber
  int n_threads = 0;
  std::string failure;
};

/// The executor whose threads run on this OS thread.
extern constinit thread_local Executor::Impl* t_impl;

}  // namespace glimpse::cuda::host
