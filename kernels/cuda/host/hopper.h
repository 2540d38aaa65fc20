// The host executor's side of kernels/cuda/layer_hopper.h: barriers in shared memory with their phases, bulk copies,
// and products of warpgroups from descriptors.
//
// Everything asynchronous happens as late as the rules of the layer allow, and what it would read or write is watched
// from the moment it was started: targets of copies and accumulators hold NaN patterns until waited for, and operands
// that changed between the start of a product and the wait for it are an error that names the thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glimpse::cuda::host {

/// Offsets into shared memory start here: a kernel that takes its start for aligned to more than 128 bytes is wrong.
constexpr uint32_t kSharedWindow = 384;

uint32_t shared_address(const void* pointer);
void mbarrier_init(uint64_t* m, int n_arrivals);
void mbarrier_publish();
void mbarrier_arrive(uint64_t* m, int expected_bytes);
/// At the barrier that has the place of m in block `rank` of the cluster.
void mbarrier_arrive_at(uint64_t* m, int rank);
void mbarrier_wait(uint64_t* m, int parity);
void bulk_copy(void* to, const void* from, int n_bytes, uint64_t* m);
/// To the same place in all blocks of the cluster whose bits are set, for their barriers at the place of m.
void bulk_copy(void* to, const void* from, int n_bytes, uint64_t* m, uint32_t blocks);
/// For the last thread of a block: what is still to be copied into it, or by it into another, or null.
const char* copies_under_way();
void warpgroup_fence();
void warpgroup_commit();
void warpgroup_wait(int pending);

/// d: n_columns / 2 floats; a: four registers of two 16-bit elements; value: of the 16 bits of an element.
struct WarpgroupProduct {
  float* d = nullptr;
  int n_columns = 0;
  const uint32_t* a = nullptr;
  uint64_t descriptor = 0;
  bool transposed = false, add = true;
  float (*value)(uint32_t bits) = nullptr;
};
void warpgroup_mma(const WarpgroupProduct& product);

}  // namespace glimpse::cuda::host
