#include "kernels/cuda/host/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#include "engine/base/half.h"
#include "kernels/cuda/host/fiber.h"

namespace glimpse::cuda::host {

thread_local Current t_current;

namespace {

constexpr int kWarpSize = 32;
constexpr int kMaxThreads = 1024;
constexpr int kMaxSharedBytes = 232448;  // what a block may have on sm_90
constexpr size_t kStackBytes = 128 << 10;
constexpr size_t kOperandBytes = 48;
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

const char* wait_name(Wait wait) {
  switch (wait) {
    case Wait::kNothing:
      return "nothing";
    case Wait::kBarrier:
      return "a block barrier";
    case Wait::kPart:
      return "a barrier of a part of the block";
    case Wait::kWarp:
      return "a warp barrier";
    case Wait::kShuffle:
      return "a shuffle";
    case Wait::kBallot:
      return "a vote";
    case Wait::kMma:
      return "a matrix product";
    case Wait::kMatrices:
    case Wait::kMatricesTransposed:
      return "a load of matrices";
    case Wait::kCondition:
      return "something that others do";
    case Wait::kEnd:
      return "nothing, it has ended";
  }
  return "?";
}

// Lanes meet here. Two sets of slots: a lane that runs ahead to the next meeting must not overwrite what a slower one
// has yet to read; it cannot run two ahead, for a meeting needs all lanes.
struct Warp {
  alignas(8) std::byte operands[2][kWarpSize][kOperandBytes];
  int arrived = 0;
  uint32_t generation = 0;
};

struct ShuffleOperand {
  uint32_t value;
  int from;
};
struct MmaOperand {
  uint32_t a[4], b[2];
  float c[4];
};
struct MatricesOperand {
  const void* row;
  uint32_t out[4];
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
  int open_group = 0;
  bool waited = false;  // said dependency_wait()
};

template <typename T>
T& operand(Warp& warp, uint32_t generation, int lane) {
  static_assert(sizeof(T) <= kOperandBytes);
  return *reinterpret_cast<T*>(warp.operands[generation & 1][lane]);
}

// c += a b, the sum over k in double, rounded once.
void multiply(Warp& warp, uint32_t generation, float (*value)(uint32_t bits)) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MmaOperand& in = operand<MmaOperand>(warp, generation, lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const int row = g + 8 * (i % 2), column = 2 * t + 8 * (i / 2);
      a[row][column] = value(in.a[i] & 0xffffu);
      a[row][column + 1] = value(in.a[i] >> 16);
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = value(in.b[i] & 0xffffu);
      b[2 * t + 8 * i + 1][g] = value(in.b[i] >> 16);
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    MmaOperand& out = operand<MmaOperand>(warp, generation, lane);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = out.c[i];
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      out.c[i] = static_cast<float>(sum);
    }
  }
}

void gather(Warp& warp, uint32_t generation, bool transposed) {
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    std::memcpy(elements[lane / 8][lane % 8], operand<MatricesOperand>(warp, generation, lane).row, 16);
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    MatricesOperand& to = operand<MatricesOperand>(warp, generation, lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const uint16_t low = transposed ? elements[i][2 * t][g] : elements[i][g][2 * t];
      const uint16_t high = transposed ? elements[i][2 * t + 1][g] : elements[i][g][2 * t + 1];
      to.out[i] = low | static_cast<uint32_t>(high) << 16;
    }
  }
}

}  // namespace

struct Executor::Impl {
  // A block of which some threads may be under way.
  struct Block {
    Current where;
    int first = 0;  // its threads' fibers
    std::vector<Warp> warps;
    int n_live = 0, at_barrier = 0, n_waits = 0;
    int at_part[kParts] = {};
  };

  Impl(Order o, uint64_t seed) : order(o), random(seed * 2 + 1) {}
  ~Impl() {
    for (Fiber& fiber : fibers) fiber_release(fiber.context);
    if (stacks != nullptr) munmap(stacks, stacks_bytes);
  }

  Status grow(int64_t n_fibers);
  Block begin_block(const Shape& shape, int number, int first, uint8_t* shared);
  Status run_blocks(const char* kernel, const Shape& shape, std::vector<Block>& blocks);
  Status give_turns(const char* kernel, Block& of, const std::vector<int>& order_of, bool& progress);
  Error deadlock(const char* kernel, const std::vector<Block>& blocks) const;
  void enter(Block& of, int thread);
  void pause(Wait wait);
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
  Block* block = nullptr;  // of the thread that runs
  int running = 0;         // its fiber
  int n_threads = 0;
  std::string failure;
};

namespace {
thread_local Executor::Impl* t_impl = nullptr;

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
    return make_error(ErrorCode::kOutOfMemory, "no stacks for the %lld threads that run at once",
                      static_cast<long long>(n));
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
    text += format("; %d thread%s (%s%s) wait%s for %s", count, count == 1 ? "" : "s", names.c_str(),
                   count > 4 ? ", ..." : "", count == 1 ? "s" : "", name);
  }
  const auto others = std::count_if(stuck + 1, blocks.end(), [](const Block& b) { return b.n_live > 0; });
  if (others > 0) text += format("; %lld more blocks have not ended", static_cast<long long>(others));
  return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d): its threads wait for one another for ever%s", kernel,
                    stuck->where.block[0], stuck->where.block[1], stuck->where.block[2], text.c_str());
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
                        of.where.block[1], of.where.block[2], thread, failure.c_str());
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
  const int at_once = shape.cooperative ? n_blocks : 1;
  GLIMPSE_TRY(impl_->grow(int64_t{at_once} * shape.n_threads));
  impl_->body = body;
  impl_->args = args;
  impl_->n_threads = shape.n_threads;
  impl_->scheduler.stack = impl_->scheduler.sanitizer_state = nullptr;  // may be another OS thread than last time
  Impl* const outer = t_impl;
  t_impl = impl_.get();
  Status status;
  // Exactly the bytes asked for, so that AddressSanitizer sees the first byte too many.
  const std::align_val_t alignment{128};
  const auto allocate = [&] {
    return static_cast<uint8_t*>(::operator new[](static_cast<size_t>(shape.shared_bytes), alignment));
  };
  std::vector<uint8_t*> shared;
  for (int i = 0; i < at_once; ++i) shared.push_back(allocate());
  std::vector<Impl::Block> blocks;
  for (const int number : impl_->turns(n_blocks)) {
    const auto place = static_cast<int>(blocks.size());
    blocks.push_back(impl_->begin_block(shape, number, place * shape.n_threads, shared[static_cast<size_t>(place)]));
    if (place + 1 < at_once) continue;
    status = impl_->run_blocks(kernel, shape, blocks);
    if (!status.ok()) break;
    blocks.clear();
  }
  for (uint8_t* memory : shared) ::operator delete[](memory, alignment);
  t_impl = outer;
  return status;
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

void dependency_wait() {
  bool& waited = t_impl->me().waited;
  if (!waited) ++t_impl->block->n_waits;
  waited = true;
}

void warp_barrier() {
  t_impl->meet(Wait::kWarp, ShuffleOperand{}, [](Warp&, uint32_t) {});
}

uint32_t shuffle(uint32_t value, int from_lane) {
  const auto perform = [](Warp& warp, uint32_t generation) {
    uint32_t values[kWarpSize];
    for (int i = 0; i < kWarpSize; ++i) values[i] = operand<ShuffleOperand>(warp, generation, i).value;
    for (int i = 0; i < kWarpSize; ++i) {
      ShuffleOperand& to = operand<ShuffleOperand>(warp, generation, i);
      to.value = values[to.from % kWarpSize];
    }
  };
  return t_impl->meet(Wait::kShuffle, ShuffleOperand{value, from_lane}, perform).value;
}

uint32_t ballot(bool predicate) {
  const auto perform = [](Warp& warp, uint32_t generation) {
    uint32_t bits = 0;
    for (int i = 0; i < kWarpSize; ++i) bits |= operand<ShuffleOperand>(warp, generation, i).value << i;
    for (int i = 0; i < kWarpSize; ++i) operand<ShuffleOperand>(warp, generation, i).value = bits;
  };
  return t_impl->meet(Wait::kBallot, ShuffleOperand{predicate ? 1u : 0u, 0}, perform).value;
}

void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float (*value)(uint32_t bits)) {
  MmaOperand mine{};
  std::copy_n(a, 4, mine.a);
  std::copy_n(b, 2, mine.b);
  std::copy_n(c, 4, mine.c);
  mine = t_impl->meet(Wait::kMma, mine, [value](Warp& warp, uint32_t g) { multiply(warp, g, value); });
  std::copy_n(mine.c, 4, c);
}

void load_matrices(uint32_t (&out)[4], const void* row, bool transposed) {
  const Wait kind = transposed ? Wait::kMatricesTransposed : Wait::kMatrices;
  const MatricesOperand mine = t_impl->meet(kind, MatricesOperand{row, {}},
                                            [transposed](Warp& warp, uint32_t g) { gather(warp, g, transposed); });
  std::copy_n(mine.out, 4, out);
}

void copy_later(void* to, const void* from, bool valid) {
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
  for (const Copy& copy : fiber.copies) {
    if (done(copy)) std::memcpy(copy.to, copy.bytes, sizeof copy.bytes);
  }
  std::erase_if(fiber.copies, done);
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
