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
//   - what bulk_copy() brings may be read after mbarrier_wait() for the phase that counts its bytes: until then the
//   target holds NaN patterns on the host.
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
// A matrix of 16-bit values whose rows run along k: pieces of 64 values (128 bytes) per row; eight rows one after
// another are an atom of 1024 bytes, aligned to 1024, and the atoms of further rows follow. Inside an atom the eight
// 16-byte chunks of row r are exchanged: chunk c lies at c ^ r ("128-byte swizzle").
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
/// The descriptor of such a matrix, from its `address` in shared memory: the start of an atom, or 32 bytes more for
/// each 16 values of k to be skipped. Bits 0-13 address / 16; 16-29 the leading offset, which this layout does not use;
/// 32-45 bytes from atom to atom of rows / 16; 49-51 zero because atoms are aligned; 62-63 1: 128-byte swizzle.
GLIMPSE_HD constexpr uint64_t swizzled_descriptor(uint32_t address) {
  return (address & 0x3ffffu) >> 4 | uint64_t{1} << 16 | uint64_t{kAtomBytes / 16} << 32 | uint64_t{1} << 62;
}

#if defined(__CUDACC__)
#if GLIMPSE_HAS_WARPGROUPS

/// The address of something in shared memory as barriers, copies and descriptors know it.
GLIMPSE_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// One thread; nobody uses the barrier before mbarrier_publish() of that thread and a barrier() of all. n_arrivals: per
/// phase.
GLIMPSE_DEVICE void mbarrier_init(Mbarrier* m, int n_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(m)), "r"(n_arrivals) : "memory");
}
/// Makes barriers that this thread initialised known to the copy engine.
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
/// Whether the phase of this parity is over; the hardware may let the thread sleep a little before it answers.
GLIMPSE_DEVICE bool mbarrier_over(Mbarrier* m, int parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred over;\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 over, [%1], %2;\n"
      "selp.b32 %0, 1, 0, over;\n}"
      : "=r"(done)
      : "r"(shared_address(m)), "r"(parity)
      : "memory");
  return done != 0;
}
/// Waits until the phase of this parity is over: 0 for the first, third, ... phase.
GLIMPSE_DEVICE void mbarrier_wait(Mbarrier* m, int parity) {
  while (!mbarrier_over(m, parity)) {
  }
}
/// The same, but whoever waits for more than about ten seconds ends the kernel with an error: a stage is full, or free,
/// within microseconds. Not among products of warpgroups: beside the second loop ptxas makes each of them wait.
GLIMPSE_DEVICE void mbarrier_wait_limited(Mbarrier* m, int parity) {
  const auto now = [] {  // in units of 2^32 nanoseconds
    uint32_t time;
    asm volatile("mov.u32 %0, %%globaltimer_hi;" : "=r"(time));
    return time;
  };
  const uint32_t begin = now();
  while (!mbarrier_over(m, parity)) {
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
#define GLIMPSE_ACC_32(at) GLIMPSE_ACC_8(at), GLIMPSE_ACC_8(at + 8), GLIMPSE_ACC_8(at + 16), GLIMPSE_ACC_8(at + 24)
#define GLIMPSE_ACC_64(at) GLIMPSE_ACC_32(at), GLIMPSE_ACC_32(at + 32)

/// Waits for all groups; only now the accumulators may be read. They are named so that no read moves ahead of the wait.
GLIMPSE_DEVICE void warpgroup_finish(float (&d)[32]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" : GLIMPSE_ACC_32(0)::"memory");
}
GLIMPSE_DEVICE void warpgroup_finish(float (&d)[64]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" : GLIMPSE_ACC_64(0)::"memory");
}
GLIMPSE_DEVICE void warpgroup_finish(float (&d)[128]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" : GLIMPSE_ACC_64(0), GLIMPSE_ACC_64(64)::"memory");
}
/// d += a b, under way until waited for. 64 x 16 by 16 x 64, 16 x 128 or 16 x 256, bfloat16. Warp w of the warpgroup,
/// with g = lane / 4, t = lane % 4:
///   a     as for mma_bf16(), of rows 16w..16w+15
///   b     its columns are the rows of a matrix in shared memory (above); the same descriptor in all threads
///   d     d[4j], d[4j + 1]: row 16w + g, columns 8j + 2t, 8j + 2t + 1; d[4j + 2], d[4j + 3]: row 16w + g + 8
GLIMPSE_DEVICE void warpgroup_mma_bf16(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, add, 1, 1, 0;\n}"
      : GLIMPSE_ACC_32(0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
      : "memory");
}
GLIMPSE_DEVICE void warpgroup_mma_bf16(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, add, 1, 1, 0;\n}"
      : GLIMPSE_ACC_64(0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
      : "memory");
}
GLIMPSE_DEVICE void warpgroup_mma_bf16(float (&d)[128], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "{%128, %129, %130, %131}, %132, add, 1, 1, 0;\n}"
      : GLIMPSE_ACC_64(0), GLIMPSE_ACC_64(64)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
      : "memory");
}
#undef GLIMPSE_ACC_8
#undef GLIMPSE_ACC_32
#undef GLIMPSE_ACC_64

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
inline void mbarrier_wait(Mbarrier* m, int parity) {
  host::mbarrier_wait(m, parity);
}
inline void mbarrier_wait_limited(Mbarrier* m, int parity) {
  mbarrier_wait(m, parity);
}
inline void bulk_copy(void* to, const void* from, int n_bytes, Mbarrier* m) {
  host::bulk_copy(to, from, n_bytes, m);
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
template <int n>
void warpgroup_finish(float (&)[n]) {
  host::warpgroup_wait(0);
}
template <int n>
void warpgroup_mma_bf16(float (&d)[n], const uint32_t (&a)[4], uint64_t b) {
  host::warpgroup_mma(d, 2 * n, a, b, [](uint32_t bits) { return bf16_bits_to_float(bits); });
}
inline void trap() {
  host::fail("reached what must not be reached");
}

#endif

}  // namespace glimpse::cuda
