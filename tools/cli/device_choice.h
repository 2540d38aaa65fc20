// --device, --gpu-layers, --cuda-decode: where a model runs, named alike in every command that loads one.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "engine/include/glimpse/glimpse.h"

namespace glimpse {
struct ModelOptions;
}

namespace glimpse::cli {

struct DeviceChoice {
  std::string device = "cpu", gpu_layers = "all", cuda_decode = "graph";
};

/// Where a model runs with this choice; `auto` is answered by the machine.
bool runs_on_gpu(const DeviceChoice& choice);
/// Adds the three options: `choice` holds known names, or the command line is refused.
void add_device_choice(CLI::App& command, DeviceChoice& choice);
/// The names as the library takes them.
void set_device(const DeviceChoice& choice, ModelOptions& options);
void set_device(const DeviceChoice& choice, glimpse_model_params& params);

}  // namespace glimpse::cli
