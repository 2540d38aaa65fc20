// CudaOps on the host executor, as a backend of the golden models.
#pragma once

#include "engine/runtime/cuda/cuda_ops.h"
#include "engine/runtime/cuda/host_device.h"
#include "tests/cuda/cuda_support.h"
#include "tests/engine/golden_support.h"

namespace glimpse::testing {

inline std::vector<Backend> cuda_host_backends() {
  std::vector<Backend> backends;
  const std::shared_ptr<cuda::Device> device = cuda::test_device({});
  Backend exact;
  exact.name = "cuda_host";
  exact.ops_factory = [device](int n_threads) -> Result<std::unique_ptr<Ops>> {
    GLIMPSE_ASSIGN(std::unique_ptr<cuda::CudaOps> ops, cuda::CudaOps::create(device, n_threads));
    return std::unique_ptr<Ops>(std::move(ops));
  };
  // Passes of more than eight rows multiply in bfloat16 unless the weights are F32, the others with int8 activations.
  exact.half_op = 2e-5;
  exact.quantized_op = 1e-4;
  exact.quantized_heavy = 1e-3;
  backends.push_back(exact);
  backends.push_back(usual_of(exact));
  Backend q8 = exact;
  q8.name += "_kv_q8_0";
  q8.kv = KvElement::kQ8_0;
  q8.text_attention = 2e-4;
  backends.push_back(q8);
  return backends;
}

}  // namespace glimpse::testing
