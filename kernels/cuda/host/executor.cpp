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

enum class Wait {
  kNothing,
  kBarrier,
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
      return "a barrier in shared memory";
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
  std::vector<Copy> copies;
  int open_group = 0;
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
  Impl(Order o, uint64_t seed) : order(o), random(seed * 2 + 1) {}
  ~Impl() {
    for (Fiber& fiber : fibers) fiber_release(fiber.context);
    if (stacks != nullptr) munmap(stacks, stacks_bytes);
  }

  Status grow(int n_threads);
  Status run_block(const char* kernel, const Shape& shape);
  Error deadlock(const char* kernel) const;
  void enter(int thread);
  void pause(Wait wait);
  std::vector<int> turns(int n);
  template <typename T, typename Perform>
  T meet(Wait kind, const T& mine, Perform perform);

  Order order;
  uint64_t random;
  std::byte* stacks = nullptr;
  size_t stacks_bytes = 0;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  FiberContext scheduler;
  void (*body)(const void*) = nullptr;
  const void* args = nullptr;
  int running = 0, n_threads = 0, n_live = 0, at_barrier = 0, n_waits = 0;
  std::string failure;
};

namespace {
thread_local Executor::Impl* t_impl = nullptr;

void fiber_main(void*) {
  fiber_started();
  Executor::Impl& impl = *t_impl;
  const int me = t_current.thread;
  impl.body(impl.args);
  impl.fibers[static_cast<size_t>(me)].wait = Wait::kEnd;
  --impl.n_live;
  fiber_switch(impl.fibers[static_cast<size_t>(me)].context, impl.scheduler, true);
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

Status Executor::Impl::grow(int n) {
  if (fibers.size() >= static_cast<size_t>(n)) return {};
  for (Fiber& fiber : fibers) fiber_release(fiber.context);
  if (stacks != nullptr) munmap(stacks, stacks_bytes);
  stacks_bytes = static_cast<size_t>(n) * kStackBytes;
  void* memory =
      mmap(nullptr, stacks_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  stacks = memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
  fibers.clear();
  if (stacks == nullptr) return make_error(ErrorCode::kOutOfMemory, "no stacks for the %d threads of a block", n);
  fibers.resize(static_cast<size_t>(n));
  return {};
}

void Executor::Impl::enter(int thread) {
  running = thread;
  t_current.thread = thread;
  fiber_switch(scheduler, fibers[static_cast<size_t>(thread)].context, false);
}

// The running thread waits; returns when it has been let go.
void Executor::Impl::pause(Wait wait) {
  Fiber& fiber = fibers[static_cast<size_t>(running)];
  fiber.wait = wait;
  fiber_switch(fiber.context, scheduler, false);
}

// All lanes of the warp bring an operand; the last one performs; each goes on with its own.
template <typename T, typename Perform>
T Executor::Impl::meet(Wait kind, const T& mine, Perform perform) {
  const int me = running, lane = me % kWarpSize, first = me - lane;
  Warp& warp = warps[static_cast<size_t>(me / kWarpSize)];
  const uint32_t generation = warp.generation;
  operand<T>(warp, generation, lane) = mine;
  Fiber& fiber = fibers[static_cast<size_t>(me)];
  fiber.wait = kind;
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

Error Executor::Impl::deadlock(const char* kernel) const {
  // The threads by what they wait for, the first few named.
  std::string text;
  for (const Wait wait : {Wait::kBarrier, Wait::kWarp, Wait::kShuffle, Wait::kBallot, Wait::kMma, Wait::kMatrices,
                          Wait::kMatricesTransposed, Wait::kCondition, Wait::kEnd}) {
    int count = 0;
    std::string names;
    for (int i = 0; i < n_threads; ++i) {
      if (fibers[static_cast<size_t>(i)].wait != wait) continue;
      if (++count <= 4) names += (count == 1 ? "" : ", ") + std::to_string(i);
    }
    if (count == 0) continue;
    text += format("; %d thread%s (%s%s) wait%s for %s", count, count == 1 ? "" : "s", names.c_str(),
                   count > 4 ? ", ..." : "", count == 1 ? "s" : "", wait_name(wait));
  }
  return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d): its threads wait for one another for ever%s", kernel,
                    t_current.block[0], t_current.block[1], t_current.block[2], text.c_str());
}

Status Executor::Impl::run_block(const char* kernel, const Shape& shape) {
  n_threads = n_live = shape.n_threads;
  at_barrier = n_waits = 0;
  failure.clear();
  warps.assign(static_cast<size_t>(n_threads / kWarpSize), Warp{});
  for (int i = 0; i < n_threads; ++i) {
    Fiber& fiber = fibers[static_cast<size_t>(i)];
    fiber.wait = Wait::kNothing;
    fiber.copies.clear();
    fiber.open_group = 0;
    fiber_prepare(fiber.context, stacks + static_cast<size_t>(i) * kStackBytes, kStackBytes, fiber_main, nullptr);
  }
  const std::vector<int> order_of = turns(n_threads);
  while (n_live > 0) {
    bool progress = false;
    for (const int thread : order_of) {
      Fiber& fiber = fibers[static_cast<size_t>(thread)];
      if (fiber.wait == Wait::kCondition && fiber.ready(fiber.argument)) fiber.wait = Wait::kNothing;
      if (fiber.wait != Wait::kNothing) continue;
      progress = true;
      enter(thread);
      if (!failure.empty()) {
        return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d), thread %d: %s", kernel, t_current.block[0],
                          t_current.block[1], t_current.block[2], thread, failure.c_str());
      }
    }
    if (at_barrier == n_threads) {
      at_barrier = 0;
      for (int i = 0; i < n_threads; ++i) fibers[static_cast<size_t>(i)].wait = Wait::kNothing;
    } else if (!progress) {
      return deadlock(kernel);
    }
  }
  if (shape.must_wait && n_waits != n_threads) {
    return make_error(ErrorCode::kDevice, "%s, block (%d, %d, %d): %d of its %d threads waited for earlier launches",
                      kernel, t_current.block[0], t_current.block[1], t_current.block[2], n_waits, n_threads);
  }
  return {};
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
  GLIMPSE_TRY(impl_->grow(shape.n_threads));
  impl_->body = body;
  impl_->args = args;
  impl_->scheduler.stack = impl_->scheduler.sanitizer_state = nullptr;  // may be another OS thread than last time
  Impl* const outer = t_impl;
  t_impl = impl_.get();
  Status status;
  // Exactly the bytes asked for, so that AddressSanitizer sees the first byte too many.
  const std::align_val_t alignment{128};
  auto* const shared = static_cast<uint8_t*>(::operator new[](static_cast<size_t>(shape.shared_bytes), alignment));
  const auto n_blocks = static_cast<int>(grid[0]) * grid[1] * grid[2];
  for (const int block : impl_->turns(n_blocks)) {
    std::memset(shared, 0xff, static_cast<size_t>(shape.shared_bytes));
    const uint64_t serial = t_current.serial + 1;
    t_current = {0,       shape.n_threads, {block % grid[0], block / grid[0] % grid[1], block / grid[0] / grid[1]},
                 grid[0], shared,          shape.shared_bytes,
                 serial};
    status = impl_->run_block(kernel, shape);
    if (!status.ok()) break;
  }
  ::operator delete[](shared, alignment);
  t_impl = outer;
  return status;
}

void block_barrier() {
  ++t_impl->at_barrier;
  t_impl->pause(Wait::kBarrier);
}

void dependency_wait() {
  ++t_impl->n_waits;
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
  Fiber& fiber = t_impl->fibers[static_cast<size_t>(t_impl->running)];
  Copy copy{to, {}, fiber.open_group};
  if (valid) std::memcpy(copy.bytes, from, sizeof copy.bytes);
  fiber.copies.push_back(copy);
}

void close_copies() {
  ++t_impl->fibers[static_cast<size_t>(t_impl->running)].open_group;
}

void wait_copies(int pending) {
  Fiber& fiber = t_impl->fibers[static_cast<size_t>(t_impl->running)];
  const auto done = [&](const Copy& copy) { return copy.group < fiber.open_group - pending; };
  for (const Copy& copy : fiber.copies) {
    if (done(copy)) std::memcpy(copy.to, copy.bytes, sizeof copy.bytes);
  }
  std::erase_if(fiber.copies, done);
}

void wait_until(bool (*ready)(void*), void* argument) {
  if (ready(argument)) return;
  Fiber& fiber = t_impl->fibers[static_cast<size_t>(t_impl->running)];
  fiber.ready = ready;
  fiber.argument = argument;
  t_impl->pause(Wait::kCondition);
}

void fail(const char* what) {
  t_impl->failure = what;
  for (;;) t_impl->pause(Wait::kEnd);
}

}  // namespace glimpse::cuda::host
