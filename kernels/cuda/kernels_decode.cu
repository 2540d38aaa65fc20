// The __global__ functions of kernels_decode.inc.
#include "kernels/cuda/device_functions.cuh"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {

#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_KERNEL
#include "kernels/cuda/kernels_decode.inc"
#undef GLIMPSE_CUDA_KERNEL

const DeviceFunction kFunctions_decode[] = {
#define GLIMPSE_CUDA_KERNEL GLIMPSE_DEVICE_TABLE_ROW
#include "kernels/cuda/kernels_decode.inc"
#undef GLIMPSE_CUDA_KERNEL
};
const int kCount_decode = sizeof kFunctions_decode / sizeof kFunctions_decode[0];

}  // namespace glimpse::cuda
