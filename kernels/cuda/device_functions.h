// The tables of __global__ functions, one per translation unit (device_unit.cuh).
#pragma once

#include "kernels/cuda/kernels.h"

namespace glimpse::cuda {

struct DeviceFunction {
  Kernel kernel;
  const void* function;
};

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
