// What a GPU can do at best, measured with the plainest kernels: the rooflines that the others are compared with.
#pragma once

#include <string>

namespace glimpse::bench {

/// All return -1 after a CUDA error, whose text is in `error`.
struct GpuRates {
  double copy_gb_s = -1;      // read and written bytes of a device-to-device copy
  double read_gb_s = -1;      // 16-byte loads, summed
  double mma_tflop_s = -1;    // mma.sync m16n8k16 bf16, operands in registers
  double wgmma_tflop_s = -1;  // the same of warpgroups, the other operand in shared memory; -1 where there are none
  double launch_us = -1;      // an empty kernel after another, one stream
  std::string error;
};
GpuRates measure_gpu_rates();

}  // namespace glimpse::bench
