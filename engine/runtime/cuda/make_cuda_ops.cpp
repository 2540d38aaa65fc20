#include "engine/runtime/cuda/cuda_ops.h"

namespace glimpse {

Result<std::unique_ptr<Ops>> make_cuda_ops(const CudaOpsOptions& options) {
  GLIMPSE_ASSIGN(std::shared_ptr<cuda::Device> device, cuda::open_cuda_device(options.log));
  GLIMPSE_ASSIGN(std::unique_ptr<cuda::CudaOps> ops,
                 cuda::CudaOps::create(std::move(device), options.n_threads, options.decode, options.log));
  return std::unique_ptr<Ops>(std::move(ops));
}

}  // namespace glimpse
