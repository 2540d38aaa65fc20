// The __global__ functions of kernels_warpgroup.inc.
#include "kernels/cuda/device_functions.cuh"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {

#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_KERNEL
#include "kernels/cuda/kernels_warpgroup.inc"
#undef GLIMPSE_CUDA_KERNEL

const DeviceFunction kFunctions_warpgroup[] = {
#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_TABLE_ROW
#include "kernels/cuda/kernels_warpgroup.inc"
#undef GLIMPSE_CUDA_KERNEL
};
const int kCount_warpgroup = sizeof kFunctions_warpgroup / sizeof kFunctions_warpgroup[0];

}  // namespace glimpse::cuda
