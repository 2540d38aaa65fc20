// Models on a device whose decode steps are run in a chosen way.
#pragma once

#include <memory>
#include <string>

#include "tests/cuda/cuda_support.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {

inline std::shared_ptr<const Model> load_on(const std::shared_ptr<cuda::Device>& device, const std::string& path,
                                            const std::string& mmproj, CudaDecode decode) {
  ModelOptions options;
  options.model_path = path;
  options.mmproj_path = mmproj;
  options.n_threads = 1;
  options.ops_factory = [=](int n_threads) -> Result<std::unique_ptr<Ops>> {
    GLIMPSE_ASSIGN(std::unique_ptr<cuda::CudaOps> ops, cuda::CudaOps::create(device, n_threads, decode));
    return std::unique_ptr<Ops>(std::move(ops));
  };
  return must(Model::load(options));
}
inline std::shared_ptr<const Model> load_on(const std::string& path, const std::string& mmproj, CudaDecode decode,
                                            const cuda::HostDeviceOptions& device_options = {}) {
  return load_on(cuda::test_device(device_options), path, mmproj, decode);
}

}  // namespace glimpse::testing
