#include "bench/probe/gpu_roofline.h"

#include <algorithm>

namespace glimpse::bench {

Result<Roofline> gpu_roofline(const GpuRates& rates) {
  Roofline roofline;
  roofline.bytes_per_second = std::max(rates.copy_gb_s, rates.read_gb_s) * 1e9;
  roofline.gpu_flop_per_second = std::max(rates.mma_tflop_s, rates.wgmma_tflop_s) * 1e12;
  if (!rates.error.empty() || roofline.bytes_per_second <= 0 || roofline.gpu_flop_per_second <= 0) {
    return make_error(ErrorCode::kDevice, "the rates of the GPU were not measured: %s",
                      rates.error.empty() ? "no reason is known" : rates.error.c_str());
  }
  return roofline;
}

Result<Roofline> measure_gpu_roofline() {
#ifdef GLIMPSE_HAS_CUDA
  return gpu_roofline(measure_gpu_rates());
#else
  return make_error(ErrorCode::kUnsupported, "this build of glimpse has no CUDA");
#endif
}

}  // namespace glimpse::bench
