#include "kernels/cuda/host/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "engine/base/enum_names.h"
#include "kernels/cuda/host/executor_impl.h"

namespace glimpse::cuda::host {

thread_local Current t_current;
constinit thread_local Executor::Impl* t_impl = nullptr;

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxSharedBytes = 232448;  // what a block may have on sm_90
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
  fiber.wait = Wait::kEnd;
  --impl.block->n_live;
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

Error Executor::Impl::deadlock(const char* kernel, const std::vector<Block>& blocks) const {
  // Of the first block that has not ended, the threads by what they wait for, the first few named.
  const auto stuck = std::find_if(blocks.begin(), blocks.end(), [](const Block& b) { return b.n_live > 0; });
  std::string text;
  for (const Wait wait : {Wait::kBarrier, Wait::kPart, Wait::kWarp, Wait::kShuffle, Wait::kBallot, Wait::kMma,
                          Wait::kMatrices, Wait::kMatricesTransposed, Wait::kCondition, Wait::kEnd}) {
    int count = 0;
    std::string names;
    const char* name = wait_name(wait);
    for (int i = 0; i < n_threads; ++i) {
      const Fiber& fiber = fibers[static_cast<size_t>(stuck->first + i)];
      if (fiber.wait != wait) continue;
      if (wait == Wait::kCondition) name = fiber.what;
      if (++count <= 4) names += (count == 1 ? "" : ", ") + std::to_string(i);
    }
    if (count == 0) continue;
    text += format("; %d thread%s (%s%s) wait%s for %s", count, count == 1 ? "" : "s", names, count > 4 ? ", ..." : "",
                   count == 1 ? "s" : "", name);
  }
  const auto others = std::count_if(stuck + 1, blocks.end(), [](const Block& b) { return b.n_live > 0; });
  if (others > 0) text += format("; %d more blocks have not ended", others);
  return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d): its threads wait for one another for ever%s", kernel,
                    stuck->where.block[0], stuck->where.block[1], stuck->where.block[2], text);
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

Status Executor::Impl::run_blocks(const char* kernel, const Shape& shape, std::vector<Block>& blocks) {
  failure.clear();
  block = nullptr;
  const std::vector<int> order_of = turns(n_threads);
  for (bool live = true; live;) {
    bool progress = false;
    live = false;
    for (Block& of : blocks) {
      if (of.n_live == 0) continue;
      GLIMPSE_TRY(give_turns(kernel, of, order_of, progress));
      live = live || of.n_live > 0;
    }
    if (live && !progress) return deadlock(kernel, blocks);
  }
  for (const Block& of : blocks) {
    if (!shape.must_wait || of.n_waits == n_threads) continue;
    return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d): %d of its %d threads waited for earlier launches",
                      kernel, of.where.block[0], of.where.block[1], of.where.block[2], of.n_waits, n_threads);
  }
  return {};
}

// first: of its fibers.
Executor::Impl::Block Executor::Impl::begin_block(const Shape& shape, int number, int first, uint8_t* shared) {
  const int* grid = shape.grid;
  std::memset(shared, 0xff, static_cast<size_t>(shape.shared_bytes));
  static thread_local uint64_t serial = 0;
  if (early != nullptr) early->begin();
  Block of;
  of.where = {0,       shape.n_threads, {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]},
              grid[0], shared,          shape.shared_bytes,
              ++serial};
  of.first = first;
  of.n_live = n_threads;
  of.warps.resize(static_cast<size_t>(n_threads / kWarpSize));
  for (int i = 0; i < n_threads; ++i) {
    Fiber& fiber = fiber_of(of, i);
    fiber.wait = Wait::kNothing;
    fiber.copies.clear();
    fiber.unfenced.clear();
    fiber.open_group = 0;
    fiber.waited = false;
    fiber_prepare(fiber.context, stacks + static_cast<size_t>(first + i) * kStackBytes, kStackBytes, fiber_main,
                  nullptr);
  }
  return of;
}

Status Executor::launch(const char* kernel, void (*body)(const void* args), const void* args, const Shape& shape) {
  const int* grid = shape.grid;
  if (shape.n_threads < kWarpSize || shape.n_threads > kMaxThreads || shape.n_threads % kWarpSize != 0 || grid[0] < 1 ||
      grid[1] < 1 || grid[2] < 1 || grid[1] > 65535 || grid[2] > 65535 || shape.shared_bytes < 0 ||
      shape.shared_bytes > kMaxSharedBytes) {
    return make_error(ErrorCode::kDevice,
                      "%s: a device would refuse a grid of %d x %d x %d blocks of %d threads with %d bytes of shared "
                      "memory",
                      kernel, grid[0], grid[1], grid[2], shape.n_threads, shape.shared_bytes);
  }
  const int n_blocks = grid[0] * grid[1] * grid[2];
  GLIMPSE_TRY(impl_->grow(shape.n_threads));
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
  auto* const shared = static_cast<uint8_t*>(::operator new[](static_cast<size_t>(shape.shared_bytes), alignment));
  std::vector<Impl::Block> blocks;
  for (const int number : impl_->turns(n_blocks)) {
    blocks.assign(1, impl_->begin_block(shape, number, 0, shared));
    status = impl_->run_blocks(kernel, shape, blocks);
    if (!status.ok()) break;
  }
  ::operator delete[](shared, alignment);
  t_impl = outer;
  return status;
}

}  // namespace glimpse::cuda::host
