// The __global__ functions of one list of kernels and their table: a translation unit. Its file defines GLIMPSE_UNIT, a
// name of device_functions.h, and GLIMPSE_UNIT_KERNELS, the list.
#include "kernels/cuda/device_functions.h"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {

#define GLIMPSE_CUDA_KERNEL(name, Args, threads, blocks, order, call)                                   \
  __global__ void __launch_bounds__(threads, blocks) name##_kernel(const __grid_constant__ Args args) { \
    call;                                                                                               \
  }
#include GLIMPSE_UNIT_KERNELS
#undef GLIMPSE_CUDA_KERNEL

#define GLIMPSE_JOIN(a, b) a##b
#define GLIMPSE_JOINED(a, b) GLIMPSE_JOIN(a, b)
const DeviceFunction GLIMPSE_JOINED(kFunctions_, GLIMPSE_UNIT)[] = {
#define GLIMPSE_CUDA_KERNEL(name, Args, threads, blocks, order, call) \
  {Kernel::name, reinterpret_cast<const void*>(name##_kernel)},
#include GLIMPSE_UNIT_KERNELS
#undef GLIMPSE_CUDA_KERNEL
};
const int GLIMPSE_JOINED(kCount_, GLIMPSE_UNIT) = sizeof GLIMPSE_JOINED(kFunctions_, GLIMPSE_UNIT) /
                                                  sizeof GLIMPSE_JOINED(kFunctions_, GLIMPSE_UNIT)[0];

}  // namespace glimpse::cuda
