// How the list of kernels becomes __global__ functions and tables of them; one table per translation unit.
#pragma once

#include "kernels/cuda/kernels.h"

namespace glimpse::cuda {

struct DeviceFunction {
  Kernel kernel;
  const void* function;
};

#define GLIMPSE_DEVICE_KERNEL(name, Args, threads, blocks, call)                                        \
  __global__ void __launch_bounds__(threads, blocks) name##_kernel(const __grid_constant__ Args args) { \
    call;                                                                                               \
  }
#define GLIMPSE_DEVICE_TABLE_ROW(name, Args, threads, blocks, call) \
  {Kernel::name, reinterpret_cast<const void*>(name##_kernel)},

#define GLIMPSE_DEVICE_TABLE(unit)                 \
  extern const DeviceFunction kFunctions_##unit[]; \
  extern const int kCount_##unit;
GLIMPSE_DEVICE_TABLE(attention)
GLIMPSE_DEVICE_TABLE(gemm)
GLIMPSE_DEVICE_TABLE(gemv)
GLIMPSE_DEVICE_TABLE(rows)
GLIMPSE_DEVICE_TABLE(warpgroup)
#undef GLIMPSE_DEVICE_TABLE

}  // namespace glimpse::cuda
