#include "kernels/cuda/host/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "engine/base/enum_names.h"
#include "kernels/cuda/host/executor_impl.h"
#include "kernels/cuda/host/hopper.h"

namespace glimpse::cuda::host {

thread_local Current t_current;
constinit thread_local Executor::Impl* t_impl = nullptr;

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxSharedBytes = 232448;  // what a block may have on sm_90
constexpr int kMaxCluster = 8;           // what every device with clusters has
constexpr size_t kStackBytes = 128 << 10;

const char* wait_name(Wait wait) {
  constexpr const char* kNames[] = {"nothing",
                                    "a block barrier",
                                    "a barrier of a part of the block",
                                    "a warp barrier",
                                    "a shuffle",
                                    "a vote",
                                    "a matrix product",
                                    "a load of matrices",
                                    "a load of matrices",
                                    "something that others do",
                                    "nothing, it has ended"};
  return enum_name<Wait::kEnd>(kNames, wait, "?");
}

void fiber_main(void*) {
  fiber_started();
  Executor::Impl& impl = *t_impl;
  Fiber& fiber = impl.me();
  impl.body(impl.args);
  if (impl.block->n_live == 1) {
    if (const char* why = copies_under_way()) fail(why);
  }
  fiber.wait = Wait::kEnd;
  --impl.block->n_live;
  --impl.n_live;
  if (fiber.at_cluster && fiber.met == impl.meetings) --impl.at_cluster;
  fiber_switch(fiber.context, impl.scheduler, true);
}
}  // namespace

Executor::Executor(Order order, uint64_t seed) : impl_(std::make_unique<Impl>(order, seed)) {}
Executor::~Executor() = default;

Executor::Impl::~Impl() {
  for (Fiber& fiber : fibers) fiber_release(fiber.context);
  if (stacks != nullptr) munmap(stacks, stacks_bytes);
}

std::vector<int> Executor::Impl::turns(int n) {
  std::vector<int> order_of(static_cast<size_t>(n));
  std::iota(order_of.begin(), order_of.end(), 0);
  if (order == Order::kReverse) std::reverse(order_of.begin(), order_of.end());
  if (order == Order::kRandom) {
    for (size_t i = order_of.size(); i > 1; --i) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      std::swap(order_of[i - 1], order_of[(random >> 33) % i]);
    }
  }
  return order_of;
}

Status Executor::Impl::grow(int64_t n) {
  if (fibers.size() >= static_cast<size_t>(n)) return {};
  for (Fiber& fiber : fibers) fiber_release(fiber.context);
  if (stacks != nullptr) munmap(stacks, stacks_bytes);
  stacks_bytes = static_cast<size_t>(n) * kStackBytes;
  void* memory =
      mmap(nullptr, stacks_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  stacks = memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
  fibers.clear();
  if (stacks == nullptr) {
    return make_error(ErrorCode::kOutOfMemory, "no stacks for the %d threads that run at once", n);
  }
  fibers.resize(static_cast<size_t>(n));
  return {};
}

void Executor::Impl::enter(Block& of, int thread) {
  if (block != &of) t_current = of.where;
  block = &of;
  running = of.first + thread;
  t_current.thread = thread;
  fiber_switch(scheduler, me().context, false);
}

std::string Executor::Impl::what_threads_wait_for(const Block& of) const {
  struct Group {
    std::string what, names;
    int count = 0;
  };
  std::vector<Group> groups;
  for (const Wait wait : {Wait::kBarrier, Wait::kPart, Wait::kWarp, Wait::kShuffle, Wait::kBallot, Wait::kMma,
                          Wait::kMatrices, Wait::kMatricesTransposed, Wait::kCondition, Wait::kEnd}) {
    for (int i = 0; i < n_threads; ++i) {
      const Fiber& fiber = fibers[static_cast<size_t>(of.first + i)];
      if (fiber.wait != wait) continue;
      const std::string what = wait == Wait::kCondition ? fiber.what : wait_name(wait);
      auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.what == what; });
      if (group == groups.end()) group = groups.insert(group, {what, "", 0});
      if (++group->count <= 4) group->names += (group->count == 1 ? "" : ", ") + std::to_string(i);
    }
  }
  std::string text;
  for (const auto& [what, names, count] : groups) {  // the first few named
    text += format("; %d thread%s (%s%s) wait%s for %s", count, count == 1 ? "" : "s", names, count > 4 ? ", ..." : "",
                   count == 1 ? "s" : "", what);
  }
  return text;
}

Error Executor::Impl::deadlock(const char* kernel, const std::vector<Block>& of_cluster) const {
  std::string first, others;
  for (const Block& of : of_cluster) {
    if (of.n_live == 0) continue;
    const int* const at = of.where.block;
    const std::string name = format("block (%d, %d, %d)", at[0], at[1], at[2]), waits = what_threads_wait_for(of);
    if (first.empty()) {
      first = name + ": its threads wait for one another for ever" + waits;
    } else {
      others += "; " + name + waits;
    }
  }
  return make_error(ErrorCode::kDevice, "%s, %s%s", kernel, first, others);
}

// One turn for each thread of a block that can go on.
Status Executor::Impl::give_turns(const char* kernel, Block& of, const std::vector<int>& order_of, bool& progress) {
  for (const int thread : order_of) {
    Fiber& fiber = fiber_of(of, thread);
    if (fiber.wait == Wait::kCondition && fiber.ready(fiber.argument)) fiber.wait = Wait::kNothing;
    if (fiber.wait != Wait::kNothing) continue;
    progress = true;
    enter(of, thread);
    if (!failure.empty()) {
      return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d), thread %d: %s", kernel, of.where.block[0],
                        of.where.block[1], of.where.block[2], thread, failure);
    }
  }
  if (of.at_barrier == n_threads) {
    progress = true;
    of.at_barrier = 0;
    for (int i = 0; i < n_threads; ++i) fiber_of(of, i).wait = Wait::kNothing;
  }
  return {};
}

Status Executor::Impl::run_blocks(const char* kernel, const Shape& shape, std::vector<Block>& of_cluster) {
  failure.clear();
  block = nullptr;
  blocks = &of_cluster;
  n_live = n_threads * shape.cluster;
  at_cluster = 0;
  meetings = 0;
  const std::vector<int> order_of = turns(n_threads), order_of_blocks = turns(shape.cluster);
  for (bool live = true; live;) {
    bool progress = false;
    live = false;
    for (const int rank : order_of_blocks) {
      Block& of = of_cluster[static_cast<size_t>(rank)];
      if (of.n_live == 0) continue;
      GLIMPSE_TRY(give_turns(kernel, of, order_of, progress));
      live = live || of.n_live > 0;
    }
    if (live && !progress) return deadlock(kernel, of_cluster);
  }
  for (const Block& of : of_cluster) {
    if (!shape.must_wait || of.n_waits == n_threads) continue;
    return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d): %d of its %d threads waited for earlier launches",
                      kernel, of.where.block[0], of.where.block[1], of.where.block[2], of.n_waits, n_threads);
  }
  return {};
}

Executor::Impl::Block Executor::Impl::begin_block(const Shape& shape, int number, uint8_t* shared) {
  const int* grid = shape.grid;
  const int rank = number % shape.cluster, first = rank * shape.n_threads;  // of its fibers
  std::memset(shared, 0xff, static_cast<size_t>(shape.shared_bytes));
  static thread_local uint64_t serial = 0;
  if (early != nullptr) early->begin();
  Block of;
  of.where = {0,
              shape.n_threads,
              {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]},
              grid[0],
              shared,
              shape.shared_bytes,
              ++serial,
              rank,
              shape.cluster};
  of.first = first;
  of.n_live = n_threads;
  of.warps.resize(static_cast<size_t>(n_threads / kWarpSize));
  for (int i = 0; i < n_threads; ++i) {
    Fiber& fiber = fiber_of(of, i);
    fiber.wait = Wait::kNothing;
    fiber.copies.clear();
    fiber.unfenced.clear();
    fiber.open_group = 0;
    fiber.waited = fiber.at_cluster = false;
    fiber.met = 0;
    fiber_prepare(fiber.context, stacks + static_cast<size_t>(first + i) * kStackBytes, kStackBytes, fiber_main,
                  nullptr);
  }
  return of;
}

Status Executor::launch(const char* kernel, void (*body)(const void* args), const void* args, const Shape& shape) {
  const int* grid = shape.grid;
  if (shape.n_threads < kWarpSize || shape.n_threads > kMaxThreads || shape.n_threads % kWarpSize != 0 || grid[0] < 1 ||
      grid[1] < 1 || grid[2] < 1 || grid[1] > 65535 || grid[2] > 65535 || shape.shared_bytes < 0 ||
      shape.shared_bytes > kMaxSharedBytes || shape.cluster < 1 || shape.cluster > kMaxCluster ||
      grid[0] % shape.cluster != 0) {
    return make_error(ErrorCode::kDevice,
                      "%s: a device would refuse a grid of %d x %d x %d blocks of %d threads with %d bytes of shared "
                      "memory in clusters of %d",
                      kernel, grid[0], grid[1], grid[2], shape.n_threads, shape.shared_bytes, shape.cluster);
  }
  const int n_blocks = grid[0] * grid[1] * grid[2];
  GLIMPSE_TRY(impl_->grow(int64_t{shape.n_threads} * shape.cluster));
  impl_->body = body;
  impl_->args = args;
  impl_->early = shape.early;
  impl_->n_threads = shape.n_threads;
  impl_->scheduler.stack = impl_->scheduler.sanitizer_state = nullptr;  // may be another OS thread than last time
  Impl* const outer = t_impl;
  t_impl = impl_.get();
  Status status;
  // Exactly the bytes asked for, so that AddressSanitizer sees the first byte too many.
  const std::align_val_t alignment{128};
  std::vector<uint8_t*> shared(static_cast<size_t>(shape.cluster));
  for (uint8_t*& of_block : shared) {
    of_block = static_cast<uint8_t*>(::operator new[](static_cast<size_t>(shape.shared_bytes), alignment));
  }
  std::vector<Impl::Block> blocks;
  for (const int number : impl_->turns(n_blocks / shape.cluster)) {
    blocks.clear();
    for (int rank = 0; rank < shape.cluster; ++rank) {
      blocks.push_back(impl_->begin_block(shape, number * shape.cluster + rank, shared[static_cast<size_t>(rank)]));
    }
    status = impl_->run_blocks(kernel, shape, blocks);
    if (!status.ok()) break;
  }
  for (uint8_t* const of_block : shared) ::operator delete[](of_block, alignment);
  t_impl = outer;
  return status;
}

}  // namespace glimpse::cuda::host
