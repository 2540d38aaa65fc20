// Device layout back to GGUF blocks, on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/weight_layout.h"

namespace glimpse::cuda {

/// Rebuilds row `row` of a matrix whose planes are in host memory (weight.data), byte for byte as it was in the file.
/// out: dtype_row_bytes(type, cols) bytes.
void unpack_device_row(Format format, const WeightView& weight, int64_t row, std::byte* out);

}  // namespace glimpse::cuda
