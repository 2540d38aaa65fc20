// The __global__ functions of kernels_gemm.inc.
#include "kernels/cuda/device_functions.cuh"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {

#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_KERNEL
#include "kernels/cuda/kernels_gemm.inc"
#undef GLIMPSE_CUDA_KERNEL

const DeviceFunction kFunctions_gemm[] = {
#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_TABLE_ROW
#include "kernels/cuda/kernels_gemm.inc"
#undef GLIMPSE_CUDA_KERNEL
};
const int kCount_gemm = sizeof kFunctions_gemm / sizeof kFunctions_gemm[0];

}  // namespace glimpse::cuda
