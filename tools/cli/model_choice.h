// Which model, on what, and how pictures and the cache are kept: the options that every command which answers shares.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "engine/include/glimpse/glimpse.h"
#include "tools/cli/device_choice.h"
#include "tools/cli/kv_type.h"

namespace glimpse {
struct EngineOptions;
struct ModelOptions;
struct PictureOptions;
}  // namespace glimpse

namespace glimpse::cli {

struct ModelChoice {
  std::string model, mmproj, vision_precision = "auto", kv_type = kUsualKvType, pack_cache;
  DeviceChoice where;
  int32_t n_threads = 0, n_ctx = 4096, n_batch = 512;
  int32_t image_min_tokens = 0, image_max_tokens = 0;
  int64_t image_min_pixels = 0, image_max_pixels = 0, source_max_pixels = 0, source_max_mib = 0;
  int32_t source_max_scans = 0;
  bool dedup_patches = false, pack_cache_map = false, reference = false, verbose = false;
  const CLI::Option* ctx_size = nullptr;  // was it given?
};

/// Adds -m and --mmproj, which come first in a command's help.
void add_model_files(CLI::App& command, ModelChoice& choice);
/// Adds everything else. `context`: what --ctx-size counts in this command.
void add_model_options(CLI::App& command, ModelChoice& choice,
                       const std::string& context = "context in tokens, pictures included");

/// On the public interface. The parameters point into the choice. Messages of the library become lines on stderr.
glimpse_model_params model_params(const ModelChoice& choice);
/// A context that nobody asked for is no larger than the model's.
glimpse_session_params session_params(const ModelChoice& choice, int32_t context_length);

/// The same behind it.
ModelOptions model_options(const ModelChoice& choice);
EngineOptions engine_options(const ModelChoice& choice, int64_t context_length);

}  // namespace glimpse::cli
