// The part of the thin layer that only Hopper has (sm_90a): matrix products of a warpgroup with one operand in shared
// memory, barriers in shared memory (mbarrier), bulk copies that complete on them. The host twin is host/hopper.h.
//
// Facts are from the PTX ISA 9.0: "wgmma.mma_async" with "Register Fragments and Shared Memory Matrix Layouts" and
// "Matrix Descriptor Format", "mbarrier", "cp.async.bulk". Architectures without these instructions have no
// GLIMPSE_HAS_WARPGROUPS; a kernel must not use anything of this file there.
//
// Rules, which the host executor checks:
//   - a warpgroup is four consecutive warps, the first a multiple of four; all its threads reach a product;
//   - before the products of a group, warpgroup_fence(); they are closed by warpgroup_commit();
//   - until warpgroup_wait() has let a group go, nobody touches its accumulators, its register operands or its shared
//   memory: the executor multiplies as late as that, and accumulators hold NaN in between;
//   - what cp_async() brings may be read by products behind shared_fence() of the thread that waited for it, and a
//   barrier;
//   - what bulk_copy() brings may be read after mbarrier_wait() for the phase that counts its bytes: until then the
//   target holds NaN patterns on the host;
//   - barriers and memory of another block of the cluster are reached behind cluster_arrive() and cluster_wait() that
//   follow mbarrier_publish(), and before that block ends; no block ends while something is copied into it, or by it.
#pragma once

#include "kernels/cuda/layer.h"

#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GLIMPSE_HAS_WARPGROUPS 1
#else
#define GLIMPSE_HAS_WARPGROUPS 0
#endif
#if !defined(__CUDACC__)
#include "kernels/cuda/host/hopper.h"
#endif

namespace glimpse::cuda {

constexpr int kWarpgroup = 4 * kWarp;
/// A barrier in shared memory: 8 bytes, aligned to 8, opaque.
using Mbarrier = uint64_t;

// -- operands in shared memory ---------------------------------------------------------------------------------------
// A matrix of 16-bit values lies in panels, one behind the other: 64 or 16 values (128 or 32 bytes) of each row, row
// after row. Eight rows of a panel are an atom, aligned to its size. Inside it 16-byte chunks are exchanged, so that a
// chunk of eight rows falls into all banks: with bits 4-6 of its address go bits 7-9 ("128-byte swizzle"), or with bit
// 4 bit 7 ("32-byte swizzle"), by an exclusive or.
// Such a matrix is operand B in two ways: rows run along k, and its rows are columns of B ("K-major"); or its rows are
// those of B, and k runs down ("MN-major", here `transposed`).
constexpr int kAtomRows = 8;
constexpr int kAtomColumns = 64;
constexpr int kAtomBytes = kAtomRows * kAtomColumns * 2;

/// Element (row, k) of an atom of 16-bit values: its index, in elements.
GLIMPSE_HD constexpr int atom_index(int row, int k) {
  return row * kAtomColumns + ((k / 8) ^ row) * 8 + k % 8;
}
/// Where the hardware finds what the unswizzled address means.
GLIMPSE_HD constexpr uint32_t swizzled(uint32_t address) {
  return address ^ (address >> 7 & 7u) << 4;
}

/// Bits 62-63 of a descriptor.
enum class Swizzle : uint32_t { k128Bytes = 1, k64Bytes = 2, k32Bytes = 3 };
/// The descriptor of a matrix at `address`. Bits 0-13 address / 16; 16-29 leading / 16; 32-45 stride / 16; 49-51 zero,
/// because atoms are aligned. stride: bytes from one atom to the next in its panel. leading: transposed, bytes from
/// one panel to the next; else not used.
GLIMPSE_HD constexpr uint64_t matrix_descriptor(uint32_t address, int leading, int stride, Swizzle swizzle) {
  return (address & 0x3ffffu) >> 4 | uint64_t{static_cast<uint32_t>(leading) / 16} << 16 |
         uint64_t{static_cast<uint32_t>(stride) / 16} << 32 | uint64_t{static_cast<uint32_t>(swizzle)} << 62;
}
/// That of a panel of 64 columns whose rows run along k, from the start of an atom, or 32 bytes more for each 16 values
/// of k to be skipped.
GLIMPSE_HD constexpr uint64_t swizzled_descriptor(uint32_t address) {
  return matrix_descriptor(address, 16, kAtomBytes, Swizzle::k128Bytes);
}

/// A matrix of kRows x kColumns values in panels: of 64 columns where that divides them, else of 16.
template <int kRows, int kColumns>
struct Panels {
  static_assert(kRows % kAtomRows == 0 && kColumns % 16 == 0);
  static constexpr int kWidth = kColumns % kAtomColumns == 0 ? kAtomColumns : 16;
  static constexpr Swizzle kSwizzle = kWidth == kAtomColumns ? Swizzle::k128Bytes : Swizzle::k32Bytes;
  static constexpr int kRowBytes = kWidth * 2, kPanelBytes = kRows * kRowBytes, kBytes = kRows * kColumns * 2;

  /// Where chunk c (columns 8c to 8c + 7) of a row lies, in bytes.
  GLIMPSE_HD static constexpr int chunk_at(int row, int c) {
    constexpr int kChunks = kWidth / 8;
    const int exchanged = kChunks == 8 ? row % 8 : row / 4 % 2;
    return c / kChunks * kPanelBytes + row * kRowBytes + ((c % kChunks) ^ exchanged) * 16;
  }
  /// As operand B whose columns are the rows, k from column 0 on.
  GLIMPSE_HD static constexpr uint64_t by_rows(uint32_t address) {
    return matrix_descriptor(address, 16, kAtomRows * kRowBytes, kSwizzle);
  }
  /// What is to be added for k from column 16 s on, and to the other from row 16 s on.
  GLIMPSE_HD static constexpr uint64_t column_step(int s) {
    return static_cast<uint64_t>(16 * s / kWidth * kPanelBytes + 16 * s % kWidth * 2) / 16;
  }
  /// As operand B, transposed: its rows are the rows, from row 0 on.
  GLIMPSE_HD static constexpr uint64_t by_columns(uint32_t address) {
    return matrix_descriptor(address, kPanelBytes, kAtomRows * kRowBytes, kSwizzle);
  }
  GLIMPSE_HD static constexpr uint64_t row_step(int s) { return static_cast<uint64_t>(16 * s * kRowBytes) / 16; }
};

#if defined(__CUDACC__)
#if GLIMPSE_HAS_WARPGROUPS

/// The address of something in shared memory as barriers, copies and descriptors know it.
GLIMPSE_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// One thread; nobody uses the barrier before mbarrier_publish() of that thread and a barrier() of all, other blocks
/// not before one of the cluster. n_arrivals: per phase.
GLIMPSE_DEVICE void mbarrier_init(Mbarrier* m, int n_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(m)), "r"(n_arrivals) : "memory");
}
/// Makes barriers that this thread initialised known to the copy engine, and, behind a barrier of the cluster, to its
/// other blocks and theirs.
GLIMPSE_DEVICE void mbarrier_publish() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
GLIMPSE_DEVICE void mbarrier_arrive(Mbarrier* m) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(m)) : "memory");
}
/// Arrives, and the phase is not over before `n_bytes` more of bulk copies are here.
GLIMPSE_DEVICE void mbarrier_arrive_expect(Mbarrier* m, int n_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(m)),
               "r"(n_bytes)
               : "memory");
}
/// Barriers from m on, in block `rank` of the cluster or, where that is negative, in this one.
struct MbarriersOfBlock {
  uint32_t address;
  GLIMPSE_DEVICE MbarriersOfBlock(Mbarrier* m, int rank) : address(shared_address(m)) {
    if (rank < 0) return;  // addresses of the block's own memory are addresses in the cluster, too
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(m)), "r"(rank));
  }
};
/// Arrives at the `number`th of them, if `yes`. Predicates instead of branches: beside these ptxas makes products of
/// warpgroups wait. Of the scope that is the default here (release.cta): what this thread wrote is not made known to
/// the other block. To release it there (release.cluster) would be a MEMBAR.ALL.GPU for each arrival; who only says
/// that it has read needs none.
GLIMPSE_DEVICE void mbarrier_arrive_if(const MbarriersOfBlock& m, int number, bool yes) {
  asm volatile(
      "{\n.reg .pred yes;\n"
      "setp.ne.b32 yes, %1, 0;\n"
      "@yes mbarrier.arrive.shared::cluster.b64 _, [%0];\n}" ::"r"(m.address + static_cast<uint32_t>(number) * 8u),
      "r"(yes ? 1 : 0)
      : "memory");
}
/// Whether the phase of this parity is over; the hardware may let the thread sleep a little before it answers.
template <bool kOfCluster = false>
GLIMPSE_DEVICE bool mbarrier_over(Mbarrier* m, int parity) {
  uint32_t done;
  if constexpr (kOfCluster) {
    // The other block's threads and copies, too, come before what follows. Not acquire.cluster, which empties L1 as
    // well: the fence is about shared memory alone, and no instruction.
    asm volatile(
        "{\n.reg .pred over;\n"
        "mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 over, [%1], %2;\n"
        "fence.acquire.sync_restrict::shared::cluster.cluster;\n"
        "selp.b32 %0, 1, 0, over;\n}"
        : "=r"(done)
        : "r"(shared_address(m)), "r"(parity)
        : "memory");
    return done != 0;
  }
  asm volatile(
      "{\n.reg .pred over;\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 over, [%1], %2;\n"
      "selp.b32 %0, 1, 0, over;\n}"
      : "=r"(done)
      : "r"(shared_address(m)), "r"(parity)
      : "memory");
  return done != 0;
}
/// Waits until the phase of this parity is over: 0 for the first, third, ... phase. kOfCluster: other blocks arrive at
/// it or copy for it.
template <bool kOfCluster = false>
GLIMPSE_DEVICE void mbarrier_wait(Mbarrier* m, int parity) {
  while (!mbarrier_over<kOfCluster>(m, parity)) {
  }
}
/// The same, but whoever waits for more than about ten seconds ends the kernel with an error: a stage is full, or free,
/// within microseconds. Not among products of warpgroups: beside the second loop ptxas makes each of them wait.
template <bool kOfCluster = false>
GLIMPSE_DEVICE void mbarrier_wait_limited(Mbarrier* m, int parity) {
  const auto now = [] {  // in units of 2^32 nanoseconds
    uint32_t time;
    asm volatile("mov.u32 %0, %%globaltimer_hi;" : "=r"(time));
    return time;
  };
  const uint32_t begin = now();
  while (!mbarrier_over<kOfCluster>(m, parity)) {
    if (now() - begin > 2) __trap();
  }
}
/// Starts to copy from global to shared memory; both addresses and n_bytes are multiples of 16. The bytes count for the
/// barrier's phase when they are here.
GLIMPSE_DEVICE void bulk_copy(void* to, const void* from, int n_bytes, Mbarrier* m) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(n_bytes), "r"(shared_address(m))
               : "memory");
}

/// The same to this place in all blocks of the cluster whose bits are set; in each of them the bytes count for the
/// barrier at the place of m.
GLIMPSE_DEVICE void bulk_copy(void* to, const void* from, int n_bytes, Mbarrier* m, uint32_t blocks) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;" ::"r"(shared_address(to)),
      "l"(from), "r"(n_bytes), "r"(shared_address(m)), "h"(static_cast<uint16_t>(blocks))
      : "memory");
}

/// A thread that copies into other blocks: their barriers, which it knows from a barrier of the cluster on, are known
/// to its copies, too.
GLIMPSE_DEVICE void cluster_fence() {
  asm volatile("fence.proxy.async::generic.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory");
}

/// Blocks of the cluster: they lie side by side in x. 1 where the launch asked for none.
GLIMPSE_DEVICE int cluster_blocks() {
  uint32_t n;
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(n));
  return static_cast<int>(n);
}
/// Which of them this one is.
GLIMPSE_DEVICE int cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}
/// A barrier of the cluster, in two parts. Each thread that has not ended arrives and then waits, whole warps at once.
/// It orders what they do, and makes nothing known that they wrote but barriers behind mbarrier_publish() (relaxed: a
/// release would be a MEMBAR.ALL.GPU).
GLIMPSE_DEVICE void cluster_arrive() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
GLIMPSE_DEVICE void cluster_wait() {
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// What this thread wrote to shared memory, copies of cp_async() that it has waited for too, may be read by products
/// that others start behind a barrier.
GLIMPSE_DEVICE void shared_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Asks for bytes (address and number multiples of 16) to be brought into L2.
GLIMPSE_DEVICE void prefetch_bulk(const void* from, int n_bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(n_bytes) : "memory");
}

/// Every warp of a warpgroup: from here on its threads have n registers, more or fewer than the launch gave them. Where
/// the roles of a block part, once in each branch.
template <int n>
GLIMPSE_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}
template <int n>
GLIMPSE_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}

/// What the threads of the warpgroup did to registers comes before the products that follow.
GLIMPSE_DEVICE void warpgroup_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Closes a group of products.
GLIMPSE_DEVICE void warpgroup_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most `pending` groups are still under way.
template <int pending>
GLIMPSE_DEVICE void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

#define GLIMPSE_ACC_8(at)                                                                                            \
  "+f"(d[at]), "+f"(d[at + 1]), "+f"(d[at + 2]), "+f"(d[at + 3]), "+f"(d[at + 4]), "+f"(d[at + 5]), "+f"(d[at + 6]), \
      "+f"(d[at + 7])
#define GLIMPSE_ACC_32 GLIMPSE_ACC_8(0), GLIMPSE_ACC_8(8), GLIMPSE_ACC_8(16), GLIMPSE_ACC_8(24)
#define GLIMPSE_ACC_40 GLIMPSE_ACC_32, GLIMPSE_ACC_8(32)
#define GLIMPSE_ACC_64 GLIMPSE_ACC_40, GLIMPSE_ACC_8(40), GLIMPSE_ACC_8(48), GLIMPSE_ACC_8(56)
#define GLIMPSE_ACC_128                                                                                          \
  GLIMPSE_ACC_64, GLIMPSE_ACC_8(64), GLIMPSE_ACC_8(72), GLIMPSE_ACC_8(80), GLIMPSE_ACC_8(88), GLIMPSE_ACC_8(96), \
      GLIMPSE_ACC_8(104), GLIMPSE_ACC_8(112), GLIMPSE_ACC_8(120)

/// Waits until at most `pending` groups are under way: accumulators d of the others may be read. They are named so that
/// no read moves ahead of the wait.
template <int pending, int n>
GLIMPSE_DEVICE void warpgroup_wait(float (&d)[n]) {
  static_assert(n == 32 || n == 40 || n == 64 || n == 128);
  if constexpr (n == 32) {
    asm volatile("wgmma.wait_group.sync.aligned %32;" : GLIMPSE_ACC_32 : "n"(pending) : "memory");
  } else if constexpr (n == 40) {
    asm volatile("wgmma.wait_group.sync.aligned %40;" : GLIMPSE_ACC_40 : "n"(pending) : "memory");
  } else if constexpr (n == 64) {
    asm volatile("wgmma.wait_group.sync.aligned %64;" : GLIMPSE_ACC_64 : "n"(pending) : "memory");
  } else {
    asm volatile("wgmma.wait_group.sync.aligned %128;" : GLIMPSE_ACC_128 : "n"(pending) : "memory");
  }
}
template <int n>
GLIMPSE_DEVICE void warpgroup_finish(float (&d)[n]) {
  warpgroup_wait<0>(d);
}

#define GLIMPSE_D_32                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
  "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define GLIMPSE_D_40 GLIMPSE_D_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define GLIMPSE_D_64                                                                   \
  GLIMPSE_D_40                                                                         \
  ", %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define GLIMPSE_D_128                                                                      \
  GLIMPSE_D_64                                                                             \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "     \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "       \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, " \
  "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "   \
  "%125, %126, %127"
// n accumulators, then the numbers of the operands behind them: a, b, add, transposed.
#define GLIMPSE_WGMMA(type, n, columns, a0, a1, a2, a3, at_b, at_add, at_transposed)                           \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #at_add                                                \
               ", 0;\n"                                                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." #type "." #type " {" GLIMPSE_D_##n      \
               "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #at_b ", add, 1, 1, %" #at_transposed ";\n}"   \
               : GLIMPSE_ACC_##n                                                                               \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(add ? 1 : 0), "n"(transposed ? 1 : 0) \
               : "memory")
/// d += a b, under way until waited for; not `add`: d = a b. 64 x 16 by 16 x 64, 80, 128 or 256, bfloat16. Warp w of
/// the warpgroup, with g = lane / 4, t = lane % 4:
///   a     as for mma_bf16(), of rows 16w..16w+15
///   b     a matrix in shared memory (above); the same descriptor in all threads
///   d     d[4j], d[4j + 1]: row 16w + g, columns 8j + 2t, 8j + 2t + 1; d[4j + 2], d[4j + 3]: row 16w + g + 8
template <bool transposed = false, bool add = true, int n>
GLIMPSE_DEVICE void warpgroup_mma_bf16(float (&d)[n], const uint32_t (&a)[4], uint64_t b) {
  static_assert(n == 32 || n == 40 || n == 64 || n == 128);
  if constexpr (n == 32) {
    GLIMPSE_WGMMA(bf16, 32, 64, 32, 33, 34, 35, 36, 37, 38);
  } else if constexpr (n == 40) {
    GLIMPSE_WGMMA(bf16, 40, 80, 40, 41, 42, 43, 44, 45, 46);
  } else if constexpr (n == 64) {
    GLIMPSE_WGMMA(bf16, 64, 128, 64, 65, 66, 67, 68, 69, 70);
  } else {
    GLIMPSE_WGMMA(bf16, 128, 256, 128, 129, 130, 131, 132, 133, 134);
  }
}
/// The same with binary16.
template <bool transposed = false, bool add = true, int n>
GLIMPSE_DEVICE void warpgroup_mma_half(float (&d)[n], const uint32_t (&a)[4], uint64_t b) {
  static_assert(n == 32 || n == 40 || n == 64);
  if constexpr (n == 32) {
    GLIMPSE_WGMMA(f16, 32, 64, 32, 33, 34, 35, 36, 37, 38);
  } else if constexpr (n == 40) {
    GLIMPSE_WGMMA(f16, 40, 80, 40, 41, 42, 43, 44, 45, 46);
  } else {
    GLIMPSE_WGMMA(f16, 64, 128, 64, 65, 66, 67, 68, 69, 70);
  }
}
#undef GLIMPSE_WGMMA
#undef GLIMPSE_ACC_8
#undef GLIMPSE_ACC_32
#undef GLIMPSE_ACC_40
#undef GLIMPSE_ACC_64
#undef GLIMPSE_ACC_128
#undef GLIMPSE_D_32
#undef GLIMPSE_D_40
#undef GLIMPSE_D_64
#undef GLIMPSE_D_128

#endif

/// Ends the kernel with an error, for code that must not be reached.
GLIMPSE_DEVICE void trap() {
  __trap();
}

#else  // the host executor

inline uint32_t shared_address(const void* pointer) {
  return host::shared_address(pointer);
}
inline void mbarrier_init(Mbarrier* m, int n_arrivals) {
  host::mbarrier_init(m, n_arrivals);
}
inline void mbarrier_publish() {
  host::mbarrier_publish();
}
inline void mbarrier_arrive(Mbarrier* m) {
  host::mbarrier_arrive(m, 0);
}
inline void mbarrier_arrive_expect(Mbarrier* m, int n_bytes) {
  host::mbarrier_arrive(m, n_bytes);
}
template <bool = false>
void mbarrier_wait(Mbarrier* m, int parity) {
  host::mbarrier_wait(m, parity);
}
template <bool = false>
void mbarrier_wait_limited(Mbarrier* m, int parity) {
  mbarrier_wait(m, parity);
}
struct MbarriersOfBlock {
  Mbarrier* m;
  int rank;
};
inline void mbarrier_arrive_if(const MbarriersOfBlock& of, int number, bool yes) {
  if (yes) host::mbarrier_arrive_at(of.m + number, of.rank < 0 ? host::current().rank : of.rank);
}
inline void bulk_copy(void* to, const void* from, int n_bytes, Mbarrier* m) {
  host::bulk_copy(to, from, n_bytes, m);
}
inline void bulk_copy(void* to, const void* from, int n_bytes, Mbarrier* m, uint32_t blocks) {
  host::bulk_copy(to, from, n_bytes, m, blocks);
}
inline void cluster_fence() {}
inline int cluster_blocks() {
  return host::current().cluster;
}
inline int cluster_rank() {
  return host::current().rank;
}
inline void cluster_arrive() {
  host::cluster_arrive();
}
inline void cluster_wait() {
  host::cluster_wait();
}
inline void shared_fence() {
  host::shared_fence();
}
inline void prefetch_bulk(const void*, int) {}
template <int n>
void take_registers() {}
template <int n>
void give_registers() {}
inline void warpgroup_fence() {
  host::warpgroup_fence();
}
inline void warpgroup_commit() {
  host::warpgroup_commit();
}
template <int pending>
void warpgroup_wait() {
  host::warpgroup_wait(pending);
}
template <int pending, int n>
void warpgroup_wait(float (&)[n]) {
  host::warpgroup_wait(pending);
}
template <int n>
void warpgroup_finish(float (&)[n]) {
  host::warpgroup_wait(0);
}
template <bool transposed = false, bool add = true, int n>
void warpgroup_mma_bf16(float (&d)[n], const uint32_t (&a)[4], uint64_t b) {
  host::warpgroup_mma({d, 2 * n, a, b, transposed, add, [](uint32_t bits) { return bf16_bits_to_float(bits); }});
}
template <bool transposed = false, bool add = true, int n>
void warpgroup_mma_half(float (&d)[n], const uint32_t (&a)[4], uint64_t b) {
  host::warpgroup_mma({d, 2 * n, a, b, transposed, add, half_bits_to_float});
}
inline void trap() {
  host::fail("reached what must not be reached");
}

#endif

}  // namespace glimpse::cuda
