// Stands in for the CUDA backend in builds without it.
#include "engine/runtime/ops.h"

namespace glimpse {

Result<std::unique_ptr<Ops>> make_cuda_ops(const CudaOpsOptions&) {
  return make_error(ErrorCode::kUnsupported, "this build of glimpse has no CUDA (configure with -DGLIMPSE_CUDA=ON)");
}

}  // namespace glimpse
