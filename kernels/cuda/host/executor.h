// Runs CUDA kernels on the host: the threads of a block are fibers on one OS thread. Blocks run one after another,
// those of a cluster together. For tests and for debugging without a GPU; deterministic. Private to
// kernels/cuda/layer.h and to those who launch.
//
// What it finds that a GPU may hide: barriers and warp instructions that not all threads reach, with the threads named;
// reads of shared memory that nobody wrote (it holds NaN patterns); copies that are read before they were waited for
// (they arrive at the wait, not before); and, with another order of threads, results that depend on who comes first.
// Under AddressSanitizer every access out of bounds of shared or device memory is reported as usual.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/base/result.h"

namespace glimpse::cuda::host {

/// In which order the threads of a block, the blocks of a cluster and the clusters of a grid get their turns.
enum class Order { kForward, kReverse, kRandom };

/// What a launch sees that begins before those ahead of it have ended.
class Early {
 public:
  virtual ~Early() = default;
  virtual void begin() = 0;   // a block begins
  virtual void waited() = 0;  // all its threads have said dependency_wait(); more than once
};

struct Shape {
  int grid[3] = {1, 1, 1};
  int n_threads = 32;    // a multiple of 32, at most 1024
  int shared_bytes = 0;  // dynamic
  /// Every thread must say dependency_wait(), or the launch is an error: where a GPU lets launches overlap, a
  /// block that forgets it reads what is not there yet.
  bool must_wait = false;
  Early* early = nullptr;  // when set: a block's threads go on behind the wait when all of them are there
  /// Blocks side by side in x that run at the same time; at most 8, grid[0] is a multiple of it.
  int cluster = 1;
};

/// Reuses its stacks from launch to launch. Used by one OS thread at a time.
class Executor {
 public:
  explicit Executor(Order order = Order::kForward, uint64_t seed = 1);
  ~Executor();
  /// Runs body(args) once for every thread of the grid. Errors: kDevice for a launch that a device would refuse and for
  /// threads that wait for one another for ever; the message names the kernel, the block, the threads and what each
  /// waits for. The threads of that block are abandoned where they are.
  Status launch(const char* kernel, void (*body)(const void* args), const void* args, const Shape& shape);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// What the running fiber knows about itself.
struct Current {
  int thread = 0;
  int n_threads = 0;
  int block[3] = {0, 0, 0};
  int grid_x = 1;
  uint8_t* shared = nullptr;
  int shared_bytes = 0;
  uint64_t serial = 0;        // of the block among all that ran on this OS thread; ascending in a cluster
  int rank = 0, cluster = 1;  // which block of its cluster this is, and of how many
};
extern thread_local Current t_current;
inline const Current& current() {
  return t_current;
}

void block_barrier();
/// number: 1 to 15; n: a multiple of 32.
void part_barrier(int number, int n);
void dependency_wait();
/// The barrier of a cluster: every thread arrives, and later waits until all that have not ended did.
void cluster_arrive();
void cluster_wait();
/// How often the threads of the cluster have met there; how often the running thread has waited for it.
uint64_t cluster_meetings();
uint64_t cluster_meetings_seen();
/// A block of the cluster, which must not have ended: its memory is another's afterwards.
const Current& block_of_cluster(int rank);
void warp_barrier();
uint32_t shuffle(uint32_t value, int from_lane);
uint32_t ballot(bool predicate);
/// Checks a request for n_bytes to be brought into L2: whole pieces of 16 bytes of memory that is there.
void prefetch(const void* from, int n_bytes);
/// value: of the 16 bits of an element.
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float (*value)(uint32_t bits));
void load_matrices(uint32_t (&out)[4], const void* row, bool transposed);
void copy_later(void* to, const void* from, bool valid);
void close_copies();
void wait_copies(int pending);
/// What the thread's copies brought may be read by products of warpgroups.
void shared_fence();
/// Whether a copy that has arrived here was not followed by shared_fence() of its thread.
bool copied_without_fence(const void* in_shared);
/// Lets others run until ready(argument), which is asked between their turns. what: is waited for, for messages.
void wait_until(bool (*ready)(void* argument), void* argument, const char* what);
/// The launch ends here with an error that says this and which thread of which block it was.
[[noreturn]] void fail(const char* what);

}  // namespace glimpse::cuda::host
