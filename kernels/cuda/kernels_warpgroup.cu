#define GLIMPSE_UNIT warpgroup
#define GLIMPSE_UNIT_KERNELS "kernels/cuda/kernels_warpgroup.inc"
#include "kernels/cuda/device_unit.cuh"
