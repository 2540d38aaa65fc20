// Every kernel as ordinary C++ for the executor.
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {
namespace {

#define GLIMPSE_CUDA_KERNEL(name, Args, threads, blocks, order, call) \
  void run_##name(const void* raw) {                                  \
    const Args& args = *static_cast<const Args*>(raw);                \
    call;                                                             \
  }
#include "kernels/cuda/kernels.inc"
#undef GLIMPSE_CUDA_KERNEL

constexpr HostFunction kFunctions[] = {
#define GLIMPSE_CUDA_KERNEL(name, Args, threads, blocks, order, call) run_##name,
#include "kernels/cuda/kernels.inc"
#undef GLIMPSE_CUDA_KERNEL
};

}  // namespace

HostFunction host_function(Kernel kernel) {
  return kFunctions[static_cast<int>(kernel)];
}

}  // namespace glimpse::cuda
