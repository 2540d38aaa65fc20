// The roofline of a GPU, measured on it: what percentages are of when a model runs there.
#pragma once

#include "bench/gpu_rates.h"
#include "bench/probe/roofline.h"

namespace glimpse::bench {

/// The better of a device-to-device copy (read and written bytes) and of plain loads; bfloat16 products of the matrix
/// units, whichever instructions are faster, for every arithmetic. Errors: kDevice when the rates were not measured.
Result<Roofline> gpu_roofline(const GpuRates& rates);
/// Of the first GPU; takes about a second and 2 GiB of its memory. Errors: kDevice, with the reason; kUnsupported in a
/// build without CUDA.
Result<Roofline> measure_gpu_roofline();

}  // namespace glimpse::bench
