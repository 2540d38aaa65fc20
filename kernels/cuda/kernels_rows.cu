// The __global__ functions of kernels_rows.inc.
#include "kernels/cuda/device_functions.cuh"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {

#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_KERNEL
#include "kernels/cuda/kernels_rows.inc"
#undef GLIMPSE_CUDA_KERNEL

const DeviceFunction kFunctions_rows[] = {
#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_TABLE_ROW
#include "kernels/cuda/kernels_rows.inc"
#undef GLIMPSE_CUDA_KERNEL
};
const int kCount_rows = sizeof kFunctions_rows / sizeof kFunctions_rows[0];

}  // namespace glimpse::cuda
