#define GLIMPSE_UNIT gemv
#define GLIMPSE_UNIT_KERNELS "kernels/cuda/kernels_gemv.inc"
#include "kernels/cuda/device_unit.cuh"
