#define GLIMPSE_UNIT attention
#define GLIMPSE_UNIT_KERNELS "kernels/cuda/kernels_attention.inc"
#include "kernels/cuda/device_unit.cuh"
