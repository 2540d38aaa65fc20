// The __global__ functions of kernels_attention.inc.
#include "kernels/cuda/device_functions.cuh"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {

#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_KERNEL
#include "kernels/cuda/kernels_attention.inc"
#undef GLIMPSE_CUDA_KERNEL

const DeviceFunction kFunctions_attention[] = {
#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_TABLE_ROW
#include "kernels/cuda/kernels_attention.inc"
#undef GLIMPSE_CUDA_KERNEL
};
const int kCount_attention = sizeof kFunctions_attention / sizeof kFunctions_attention[0];

}  // namespace glimpse::cuda
