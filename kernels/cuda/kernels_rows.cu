#define GLIMPSE_UNIT rows
#define GLIMPSE_UNIT_KERNELS "kernels/cuda/kernels_rows.inc"
#include "kernels/cuda/device_unit.cuh"
