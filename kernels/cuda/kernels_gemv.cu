// The __global__ functions of kernels_gemv.inc.
#include "kernels/cuda/device_functions.cuh"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {

#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_KERNEL
#include "kernels/cuda/kernels_gemv.inc"
#undef GLIMPSE_CUDA_KERNEL

const DeviceFunction kFunctions_gemv[] = {
#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_TABLE_ROW
#include "kernels/cuda/kernels_gemv.inc"
#undef GLIMPSE_CUDA_KERNEL
};
const int kCount_gemv = sizeof kFunctions_gemv / sizeof kFunctions_gemv[0];

}  // namespace glimpse::cuda
