// A device that is not there: memory is the heap's, kernels run on the host executor. For tests and debugging.
#pragma once

#include "engine/runtime/cuda/device.h"
#include "kernels/cuda/host/executor.h"

namespace glimpse::cuda {

struct HostDeviceOptions {
  host::Order order = host::Order::kForward;
  uint64_t seed = 1;
  uint64_t memory_bytes = uint64_t{1} << 40;  // how much it says it has
  int max_shared_bytes = 227 << 10;
  int n_multiprocessors = 4;
  bool warpgroups = false;  // many rows as on Hopper
  bool clusters = true;     // with warpgroups: blocks that share their copies
  /// Launches of a recording that a GPU may begin early see, up to their wait, NaN patterns in place of all that
  /// earlier ones of the same recording wrote. Slow: for small models.
  bool early = false;
};
std::shared_ptr<Device> make_host_device(const HostDeviceOptions& options);

}  // namespace glimpse::cuda
