// All device code, for the table builders.
#pragma once

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/attention_warpgroup.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/gemm_warpgroup.cuh"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/sample.cuh"
