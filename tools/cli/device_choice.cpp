#include "tools/cli/device_choice.h"

#include <vector>

#include "engine/model/model.h"
#include "engine/runtime/ops.h"

namespace glimpse::cli {
namespace {

struct Named {
  const char* name;
  int32_t number;  // of the enumeration in glimpse.h, which is the engine's
};
constexpr Named kDevices[] = {
    {"cpu", GLIMPSE_DEVICE_CPU}, {"cuda", GLIMPSE_DEVICE_CUDA}, {"auto", GLIMPSE_DEVICE_AUTO}};
constexpr Named kCudaDecodes[] = {{"graph", GLIMPSE_CUDA_DECODE_GRAPH}, {"launches", GLIMPSE_CUDA_DECODE_LAUNCHES}};

template <size_t n>
CLI::IsMember names_of(const Named (&list)[n]) {
  std::vector<std::string> names;
  for (const Named& one : list) names.emplace_back(one.name);
  return CLI::IsMember(names);
}

template <size_t n>
int32_t number_of(const std::string& name, const Named (&list)[n]) {
  for (const Named& one : list) {
    if (name == one.name) return one.number;
  }
  return list[0].number;
}

int32_t device_number(const DeviceChoice& choice) {
  return choice.gpu_layers == "0" ? GLIMPSE_DEVICE_CPU : number_of(choice.device, kDevices);
}

}  // namespace

bool runs_on_gpu(const DeviceChoice& choice) {
  const int32_t device = device_number(choice);
  if (device == GLIMPSE_DEVICE_AUTO) return make_cuda_ops(CudaOpsOptions{.n_threads = 1}).ok();
  return device == GLIMPSE_DEVICE_CUDA;
}

void add_device_choice(CLI::App& command, DeviceChoice& choice) {
  command.add_option("--device", choice.device, "cpu, cuda, or auto: the GPU when there is one")
      ->check(names_of(kDevices))
      ->capture_default_str();
  command.add_option("--gpu-layers", choice.gpu_layers, "all or 0 (0: as --device cpu)")
      ->check(CLI::IsMember({"all", "0"}))
      ->capture_default_str();
  command
      .add_option("--cuda-decode", choice.cuda_decode,
                  "on a GPU: graph (a token's launches are recorded once, the GPU draws) or launches (one by one, the "
                  "host draws); greedy answers are the same")
      ->check(names_of(kCudaDecodes))
      ->capture_default_str();
}

void set_device(const DeviceChoice& choice, ModelOptions& options) {
  options.device = static_cast<DeviceKind>(device_number(choice));
  options.cuda_decode = static_cast<CudaDecode>(number_of(choice.cuda_decode, kCudaDecodes));
}

void set_device(const DeviceChoice& choice, glimpse_model_params& params) {
  params.device = device_number(choice);
  params.cuda_decode = number_of(choice.cuda_decode, kCudaDecodes);
}

}  // namespace glimpse::cli
