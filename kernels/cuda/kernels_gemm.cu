#define GLIMPSE_UNIT gemm
#define GLIMPSE_UNIT_KERNELS "kernels/cuda/kernels_gemm.inc"
#include "kernels/cuda/device_unit.cuh"
