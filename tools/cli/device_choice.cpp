#include "tools/cli/device_choice.h"

#include <vector>

#include "engine/model/model.h"
#include "engine/runtime/ops.h"
#include "tools/cli/warnings.h"

namespace glimpse::cli {
namespace {

struct Named {
  const char* name;
  int32_t number;  // of the enumeration in glimpse.h, which is the engine's
};
constexpr Named kDevices[] = {
    {"cpu", GLIMPSE_DEVICE_CPU}, {"cuda", GLIMPSE_DEVICE_CUDA}, {"auto", GLIMPSE_DEVICE_AUTO}};

int32_t device_number(const DeviceChoice& choice) {
  if (choice.gpu_layers == "0") return GLIMPSE_DEVICE_CPU;
  for (const Named& one : kDevices) {
    if (choice.device == one.name) return one.number;
  }
  return GLIMPSE_DEVICE_CPU;
}

const char* device_options(const DeviceChoice& choice) {
  return choice.cuda_decode == "launches" ? "cuda_decode=launches" : "cuda_decode=graph";
}

}  // namespace

bool runs_on_gpu(const DeviceChoice& choice) {
  const int32_t device = device_number(choice);
  if (device == GLIMPSE_DEVICE_AUTO) return make_cuda_ops(CudaOpsOptions{.n_threads = 1, .log = WarningSink{}}).ok();
  return device == GLIMPSE_DEVICE_CUDA;
}

void add_device_choice(CLI::App& command, DeviceChoice& choice) {
  command.add_option("--device", choice.device, "cpu, cuda, or auto: the GPU when there is one")
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}))
      ->capture_default_str();
  command.add_option("--gpu-layers", choice.gpu_layers, "all or 0 (0: as --device cpu)")
      ->check(CLI::IsMember({"all", "0"}))
      ->capture_default_str();
  command
      .add_option("--cuda-decode", choice.cuda_decode,
                  "on a GPU: graph (a token's launches are recorded once, the GPU draws) or launches (one by one, the "
                  "host draws); greedy answers are the same")
      ->check(CLI::IsMember({"graph", "launches"}))
      ->capture_default_str();
}

void set_device(const DeviceChoice& choice, ModelOptions& options) {
  options.device = static_cast<DeviceKind>(device_number(choice));
  options.device_options = device_options(choice);
}

void set_device(const DeviceChoice& choice, glimpse_model_params& params) {
  params.device = device_number(choice);
  params.device_options = device_options(choice);
}

}  // namespace glimpse::cli
