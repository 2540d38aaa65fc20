// The thin layer that every CUDA kernel of glimpse is written over: thread and block indices, shared memory, barriers,
// warp shuffles and votes, dp4a, asynchronous copies, matrix fragments. nvcc turns each into its instruction; an
// ordinary C++ compiler into a call of the host executor (kernels/cuda/host/executor.h), which runs the threads of a
// block as fibers. So every kernel also runs, and can be stepped through with a debugger, on a machine without a GPU.
//
// Rules for kernels, which the executor checks:
//   - blocks have one dimension of a multiple of 32 threads; all shared memory is dynamic and comes from shared();
//   - every thread of the block (of the part) reaches barrier() (part_barrier()), every lane of the warp reaches a
//   shuffle, vote or matrix instruction;
//   - what cp_async() copies may be read after cp_async_wait() and a barrier() only: on the host it arrives that late;
//   - shared memory holds garbage (on the host: NaN patterns) when a block starts;
//   - nothing that an earlier launch of the recording wrote is read, and nothing is written, before dependency_wait().
// Floating-point: neither compiler contracts a * b + c on its own; fused steps are written fmaf().
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define GLIMPSE_DEVICE __device__ __forceinline__
#define GLIMPSE_HD __host__ __device__ __forceinline__
#define GLIMPSE_PRAGMA(text) _Pragma(#text)
#define GLIMPSE_UNROLL _Pragma("unroll")
// That many turns together, so that their loads are under way at once.
#define GLIMPSE_UNROLL_BY(n) GLIMPSE_PRAGMA(unroll n)
#define GLIMPSE_NO_UNROLL _Pragma("unroll 1")
#else
#include "engine/base/half.h"
#include "kernels/cuda/host/executor.h"
#define GLIMPSE_DEVICE inline
#define GLIMPSE_HD inline
#define GLIMPSE_UNROLL
#define GLIMPSE_UNROLL_BY(n)
#define GLIMPSE_NO_UNROLL
#endif

namespace glimpse::cuda {

constexpr int kWarp = 32;

/// Sixteen bytes that are loaded and stored at once; addresses must be multiples of 16.
struct alignas(16) Vec16 {
  uint32_t w[4];
};
/// Eight bytes; addresses must be multiples of 8.
struct alignas(8) Vec8 {
  uint32_t w[2];
};

// -- bits ------------------------------------------------------------------------------------------------------------
GLIMPSE_HD float bits_to_float(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}
GLIMPSE_HD uint32_t float_to_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

/// Finite values into the range of binary16; NaN and infinities as they are.
GLIMPSE_HD float saturate_half(float value) {
  const uint32_t magnitude = float_to_bits(value) & 0x7fffffffu;
  if (magnitude <= 0x477fe000u || magnitude >= 0x7f800000u) return value;  // 65504
  return value < 0 ? -65504.0f : 65504.0f;
}

#if defined(__CUDACC__)

// -- where a thread is -----------------------------------------------------------------------------------------------
GLIMPSE_DEVICE int thread_index() {
  return static_cast<int>(threadIdx.x);
}
GLIMPSE_DEVICE int block_x() {
  return static_cast<int>(blockIdx.x);
}
GLIMPSE_DEVICE int block_y() {
  return static_cast<int>(blockIdx.y);
}
GLIMPSE_DEVICE int block_z() {
  return static_cast<int>(blockIdx.z);
}
GLIMPSE_DEVICE int grid_x() {
  return static_cast<int>(gridDim.x);
}
GLIMPSE_DEVICE int n_threads() {
  return static_cast<int>(blockDim.x);
}
/// The block's dynamic shared memory, aligned to 128 bytes.
GLIMPSE_DEVICE uint8_t* shared() {
  extern __shared__ __align__(128) uint8_t glimpse_shared[];
  return glimpse_shared;
}

// -- waiting for one another -----------------------------------------------------------------------------------------
GLIMPSE_DEVICE void barrier() {
  __syncthreads();
}
GLIMPSE_DEVICE void warp_barrier() {
  __syncwarp();
}
/// A barrier of the `n` threads (a multiple of 32) of a block that name the same number, 1 to 15.
GLIMPSE_DEVICE void part_barrier(int number, int n) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(n) : "memory");
}
// Launches of a recorded step overlap where kernels were compiled for sm_90 or later (CudaStream asks for it): a launch
// may begin when all blocks of the one before it have said launch_dependents() or ended. What does not depend on
// earlier launches, the prefetch of weights, stands before the wait. Elsewhere launches come one after another and both
// are nothing.
/// The next launch may begin; it still waits for this one to end where it says dependency_wait().
GLIMPSE_DEVICE void launch_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// Earlier launches have ended and what they wrote can be read. Every thread of a kernel that a step may record says
/// it, so that a launch has not ended before those ahead of it have.
GLIMPSE_DEVICE void dependency_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
GLIMPSE_DEVICE float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
GLIMPSE_DEVICE uint32_t shuffle_xor(uint32_t value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
GLIMPSE_DEVICE int shuffle_xor(int value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
GLIMPSE_DEVICE float shuffle(float value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
/// Bit i: the predicate of lane i.
GLIMPSE_DEVICE uint32_t ballot(bool predicate) {
  return __ballot_sync(0xffffffffu, predicate);
}
GLIMPSE_DEVICE int count_bits(uint32_t bits) {
  return __popc(bits);
}
/// Returns the value before the addition.
GLIMPSE_DEVICE int atomic_add(int* address, int value) {
  return atomicAdd(address, value);
}
/// To shared memory, which has no addition of 64 bits but a loop of comparisons: the low half, then the high one with
/// what was carried. The sum is there when all have added.
GLIMPSE_DEVICE void atomic_add(uint64_t* address, uint64_t value) {
  auto* const words = reinterpret_cast<uint32_t*>(address);
  const auto low = static_cast<uint32_t>(value);
  const uint32_t before = atomicAdd(words, low);
  const uint32_t high = static_cast<uint32_t>(value >> 32) + (before + low < low ? 1u : 0u);
  if (high != 0) atomicAdd(words + 1, high);
}
GLIMPSE_DEVICE void atomic_or(int* address, int value) {
  atomicOr(address, value);
}
GLIMPSE_DEVICE void atomic_max(uint64_t* address, uint64_t value) {
  atomicMax(reinterpret_cast<unsigned long long*>(address), static_cast<unsigned long long>(value));
}
/// An addition to global memory between what the threads of this block wrote before their last barrier and what they
/// read behind the next: blocks that add later see the former.
GLIMPSE_DEVICE int take_ticket(int* address) {
  int old;
  asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;" : "=r"(old) : "l"(address) : "memory");
  return old;
}

// -- arithmetic ------------------------------------------------------------------------------------------------------
/// c + sum of four products of signed bytes.
GLIMPSE_DEVICE int dp4a(uint32_t a, uint32_t b, int c) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
}
/// c + sum of four products, unsigned bytes of a with signed bytes of b.
GLIMPSE_DEVICE int dp4a_us(uint32_t a, uint32_t b, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
/// Bytes of b and a, of which a's have the numbers 0 to 3: byte i of the result is that which nibble i of the selector,
/// below 8, names.
GLIMPSE_DEVICE uint32_t select_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}
/// The word turned by n bits modulo 32.
GLIMPSE_DEVICE uint32_t rotate_right(uint32_t word, int n) {
  return __funnelshift_r(word, word, static_cast<uint32_t>(n));
}
GLIMPSE_DEVICE float half_bits_to_float(uint32_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<uint16_t>(bits)));
  return value;
}
GLIMPSE_DEVICE float bf16_bits_to_float(uint32_t bits) {
  return __uint_as_float(bits << 16);
}
/// 2^23 plus byte i of a word, as a float: exact, and one instruction.
GLIMPSE_DEVICE float byte_over_2_23(uint32_t word, int i) {
  return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7540u | static_cast<uint32_t>(i)));
}
/// Byte i of a word, which is at least 128, over 128, as a float: exact, and one instruction.
GLIMPSE_DEVICE float byte_over_128(uint32_t word, int i) {
  return __uint_as_float(__byte_perm(word, 0x3f000000u, 0x7044u | static_cast<uint32_t>(i) << 8));
}
/// Two floats to bfloat16, nearest even; `low` in the low half.
GLIMPSE_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
/// The same to binary16, of values within its range.
GLIMPSE_DEVICE uint32_t pack_half_in_range(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
GLIMPSE_DEVICE int round_to_int(float value) {
  return __float2int_rn(value);
}
/// 2^x with an error of at most 2 units in the last place; results below 2^-126 are 0.
GLIMPSE_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// -- memory ----------------------------------------------------------------------------------------------------------
/// The same pointer, of which the compiler then knows that it is to global memory, as it does of `known`, an argument
/// of the kernel: what was itself loaded it would read through the instructions for memory of any kind.
template <typename T>
GLIMPSE_DEVICE const T* in_global(const T* pointer, const T* known) {
  int64_t distance = pointer - known;
  asm("" : "+l"(distance));
  return known + distance;
}
/// Loads of weights: read once, so they do not displace what L1 holds.
GLIMPSE_DEVICE Vec16 load_stream(const Vec16* address) {
  Vec16 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
               : "l"(address));
  return v;
}
/// Asks for the line at a global address to be brought into L2.
GLIMPSE_DEVICE void prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}
/// Whether the warp of this thread has a part in ranges with the numbers first to first + 7 (first: a multiple of 8).
GLIMPSE_DEVICE bool prefetches([[maybe_unused]] int first) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return static_cast<int>(threadIdx.x) / kWarp == first / kWarp;
#else
  return true;
#endif
}
/// Asks for n_bytes (a multiple of 16, as the address) to be brought into L2. One thread does it, the `number`th of the
/// block; for architectures without an instruction for it a warp, that which has this number modulo the warps.
GLIMPSE_DEVICE void prefetch_range(const void* from, int n_bytes, int number) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (static_cast<int>(threadIdx.x) == number) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(n_bytes) : "memory");
  }
#else
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread / kWarp != number % static_cast<int>(blockDim.x / kWarp)) return;
  for (int at = thread % kWarp * 128; at < n_bytes; at += kWarp * 128) prefetch(static_cast<const char*>(from) + at);
#endif
}
/// The same by the thread that calls, for what nobody waits for; nothing on architectures whose launches do not
/// overlap.
GLIMPSE_DEVICE void prefetch_ahead([[maybe_unused]] const void* from, [[maybe_unused]] int n_bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(n_bytes) : "memory");
#endif
}
/// Starts to copy 16 bytes from global to shared memory, or zeros when not `valid` (then `from` is not read).
GLIMPSE_DEVICE void cp_async(void* to, const void* from, bool valid) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int n_bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(n_bytes));
}
/// Closes a group of copies.
GLIMPSE_DEVICE void cp_async_commit() {
  asm volatile("cp.async.commit_group;");
}
/// Waits until at most `pending` of this thread's groups are still under way.
template <int pending>
GLIMPSE_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// -- matrix fragments ------------------------------------------------------------------------------------------------
// With g = lane / 4, t = lane % 4, a fragment register holds two 16-bit values, the lower index in the low half:
//   a (16 x 16)  a[0]: row g, columns 2t 2t+1   a[1]: row g+8   a[2]: row g, columns 2t+8 2t+9   a[3]: row g+8, those
//   b (16 x 8)   b[0]: rows 2t 2t+1, column g   b[1]: rows 2t+8 2t+9, column g
//   c (16 x 8)   c[0] c[1]: row g, columns 2t 2t+1   c[2] c[3]: row g+8
/// c += a b. Products are exact; their sum is rounded to float at least once (the hardware's order is its own).
GLIMPSE_DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// The same with binary16.
GLIMPSE_DEVICE void mma_half(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// Four 8 x 8 matrices of 16-bit values from shared memory. Lane 8i + r gives the address of row r of matrix i (16
/// bytes); out[i] of a lane: row g, columns 2t and 2t+1 of matrix i.
GLIMPSE_DEVICE void load_matrices(uint32_t (&out)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
/// The same of the transposed matrices: out[i]: rows 2t and 2t+1, column g.
GLIMPSE_DEVICE void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

#else  // the host executor

inline int thread_index() {
  return host::current().thread;
}
inline int block_x() {
  return host::current().block[0];
}
inline int block_y() {
  return host::current().block[1];
}
inline int block_z() {
  return host::current().block[2];
}
inline int grid_x() {
  return host::current().grid_x;
}
inline int n_threads() {
  return host::current().n_threads;
}
inline uint8_t* shared() {
  return host::current().shared;
}
inline void barrier() {
  host::block_barrier();
}
inline void warp_barrier() {
  host::warp_barrier();
}
inline void part_barrier(int number, int n) {
  host::part_barrier(number, n);
}
inline void launch_dependents() {}
inline void dependency_wait() {
  host::dependency_wait();
}
inline float shuffle_xor(float value, int mask) {
  return bits_to_float(host::shuffle(float_to_bits(value), host::current().thread % kWarp ^ mask));
}
inline uint32_t shuffle_xor(uint32_t value, int mask) {
  return host::shuffle(value, host::current().thread % kWarp ^ mask);
}
inline int shuffle_xor(int value, int mask) {
  return static_cast<int>(shuffle_xor(static_cast<uint32_t>(value), mask));
}
inline float shuffle(float value, int lane) {
  return bits_to_float(host::shuffle(float_to_bits(value), lane % kWarp));
}
inline uint32_t ballot(bool predicate) {
  return host::ballot(predicate);
}
inline int count_bits(uint32_t bits) {
  return std::popcount(bits);
}
inline int atomic_add(int* address, int value) {
  const int old = *address;
  *address = old + value;
  return old;
}
inline void atomic_add(uint64_t* address, uint64_t value) {
  uint32_t words[2];
  std::memcpy(words, address, sizeof words);
  const auto low = static_cast<uint32_t>(value);
  const bool carry = words[0] + low < low;
  words[0] += low;
  words[1] += static_cast<uint32_t>(value >> 32) + (carry ? 1 : 0);
  std::memcpy(address, words, sizeof words);
}
inline void atomic_or(int* address, int value) {
  *address |= value;
}
inline void atomic_max(uint64_t* address, uint64_t value) {
  if (*address < value) *address = value;
}
inline int take_ticket(int* address) {
  return atomic_add(address, 1);
}
inline int dp4a(uint32_t a, uint32_t b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return c;
}
inline int dp4a_us(uint32_t a, uint32_t b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<uint8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return c;
}
inline uint32_t select_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t selected = 0;
  for (int i = 0; i < 4; ++i) {
    selected |= (static_cast<uint32_t>(bytes >> (8 * (selector >> (4 * i) & 7u))) & 255u) << (8 * i);
  }
  return selected;
}
inline uint32_t rotate_right(uint32_t word, int n) {
  return std::rotr(word, n % 32);
}
inline float half_bits_to_float(uint32_t bits) {
  return half_to_float(static_cast<uint16_t>(bits));
}
inline float bf16_bits_to_float(uint32_t bits) {
  return bits_to_float(bits << 16);
}
inline float byte_over_2_23(uint32_t word, int i) {
  return bits_to_float(0x4b000000u | (word >> (8 * i) & 255u));
}
inline float byte_over_128(uint32_t word, int i) {
  return bits_to_float(0x3f000000u | (word >> (8 * i) & 255u) << 16);
}
inline uint32_t pack_bf16(float low, float high) {
  return float_to_bf16(low) | static_cast<uint32_t>(float_to_bf16(high)) << 16;
}
inline uint32_t pack_half_in_range(float low, float high) {
  return float_to_half(low) | static_cast<uint32_t>(float_to_half(high)) << 16;
}
inline int round_to_int(float value) {
  return static_cast<int>(std::lrint(value));
}
inline float exp2_fast(float x) {
  return std::exp2(x);
}
template <typename T>
const T* in_global(const T* pointer, const T*) {
  return pointer;
}
inline Vec16 load_stream(const Vec16* address) {
  return *address;
}
inline bool prefetches(int) {
  return true;
}
inline void prefetch_range(const void* from, int n_bytes, int number) {
  if (thread_index() == number) host::prefetch(from, n_bytes);
}
inline void prefetch_ahead(const void* from, int n_bytes) {
  host::prefetch(from, n_bytes);
}
inline void cp_async(void* to, const void* from, bool valid) {
  host::copy_later(to, from, valid);
}
inline void cp_async_commit() {
  host::close_copies();
}
template <int pending>
void cp_async_wait() {
  host::wait_copies(pending);
}
inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::mma(c, a, b, [](uint32_t bits) { return bf16_bits_to_float(bits); });
}
inline void mma_half(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::mma(c, a, b, half_bits_to_float);
}
inline void load_matrices(uint32_t (&out)[4], const void* row) {
  host::load_matrices(out, row, false);
}
inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  host::load_matrices(out, row, true);
}

#endif

// -- of both --------------------------------------------------------------------------------------------------------
/// Two floats to binary16, `low` in the low half. Infinities stay; others outside the range become the greatest of it.
GLIMPSE_DEVICE uint32_t pack_half(float low, float high) {
  return pack_half_in_range(saturate_half(low), saturate_half(high));
}
/// Which block of a grid some code is.
struct BlockIndex {
  int x = 0, y = 0, z = 0;
  int grid_x = 1;
};
GLIMPSE_DEVICE BlockIndex this_block() {
  return {block_x(), block_y(), block_z(), grid_x()};
}
GLIMPSE_DEVICE int lane_index() {
  return thread_index() % kWarp;
}
GLIMPSE_DEVICE int warp_index() {
  return thread_index() / kWarp;
}
/// kRows neighbouring floats, `left` of which may be read (more or fewer than kRows): others are 0.
template <int kRows>
GLIMPSE_DEVICE void load_rows(const float* from, int left, float (&out)[kRows]) {
  if constexpr (kRows == 4) {
    if (left >= 4 && reinterpret_cast<uintptr_t>(from) % sizeof(Vec16) == 0) {
      const Vec16 v = *reinterpret_cast<const Vec16*>(from);
      GLIMPSE_UNROLL
      for (int i = 0; i < 4; ++i) out[i] = bits_to_float(v.w[i]);
      return;
    }
  }
  GLIMPSE_UNROLL
  for (int i = 0; i < kRows; ++i) out[i] = i < left ? from[i] : 0.0f;
}
template <int kRows>
GLIMPSE_DEVICE void store_rows(float* to, int left, const float (&values)[kRows]) {
  if constexpr (kRows == 4) {
    if (left >= 4 && reinterpret_cast<uintptr_t>(to) % sizeof(Vec16) == 0) {
      Vec16 v;
      GLIMPSE_UNROLL
      for (int i = 0; i < 4; ++i) v.w[i] = float_to_bits(values[i]);
      *reinterpret_cast<Vec16*>(to) = v;
      return;
    }
  }
  GLIMPSE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    if (i < left) to[i] = values[i];
  }
}

/// Sum over the lanes of a warp, the same bits in every lane: a tree whose halves are lanes that differ in one bit.
GLIMPSE_DEVICE float warp_sum(float value) {
  GLIMPSE_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
GLIMPSE_DEVICE float warp_max(float value) {
  GLIMPSE_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}
/// Sum over the block in a fixed order: warps as warp_sum(), then their sums in ascending order. scratch: 32 floats of
/// shared memory, free again after the next barrier. Contains two barriers.
GLIMPSE_DEVICE float block_sum(float value, float* scratch) {
  const float sum = warp_sum(value);
  barrier();  // whoever still reads an earlier result
  if (lane_index() == 0) scratch[warp_index()] = sum;
  barrier();
  float total = 0;
  for (int w = 0; w < n_threads() / kWarp; ++w) total += scratch[w];
  return total;
}

}  // namespace glimpse::cuda
