// Finds the __global__ function of a kernel in the tables of the translation units.
#include "kernels/cuda/device_functions.h"

#include <span>

namespace glimpse::cuda {

const void* device_function(Kernel kernel) {
  const std::span<const DeviceFunction> tables[] = {{kFunctions_attention, static_cast<size_t>(kCount_attention)},
                                                    {kFunctions_gemm, static_cast<size_t>(kCount_gemm)},
                                                    {kFunctions_gemv, static_cast<size_t>(kCount_gemv)},
                                                    {kFunctions_rows, static_cast<size_t>(kCount_rows)},
                                                    {kFunctions_warpgroup, static_cast<size_t>(kCount_warpgroup)}};
  for (const auto& table : tables) {
    for (const DeviceFunction& row : table) {
      if (row.kernel == kernel) return row.function;
    }
  }
  return nullptr;
}

}  // namespace glimpse::cuda
