#include "tools/cli/model_choice.h"

#include <algorithm>

#include "engine/model/model.h"
#include "engine/serve/engine.h"
#include "tools/cli/terminal.h"
#include "tools/cli/vision_precision.h"
#include "tools/cli/warnings.h"

namespace glimpse::cli {
namespace {

void log_message(void*, glimpse_log_level level, const char* message) {
  static const char* const names[] = {"debug", "info", "warning", "error"};
  print_note("%s: %s", names[level], message);
}

LogSink log_sink(const ModelChoice& c) {
  if (!c.verbose) return WarningSink{};
  return [](LogLevel level, std::string_view message) {
    log_message(nullptr, static_cast<glimpse_log_level>(level), std::string(message).c_str());
  };
}

int64_t context_of(const ModelChoice& c, int64_t context_length) {
  const bool given = c.ctx_size != nullptr && c.ctx_size->count() > 0;
  return given ? c.n_ctx : std::min<int64_t>(c.n_ctx, context_length);
}

void set_pictures(const ModelChoice& c, PictureOptions& options) {
  options.min_image_tokens = c.image_min_tokens;
  options.max_image_tokens = c.image_max_tokens;
  options.dedup_patches = c.dedup_patches;
  if (c.image_min_pixels > 0) options.image_limits.min_pixels = c.image_min_pixels;
  if (c.image_max_pixels > 0) options.image_limits.max_pixels = c.image_max_pixels;
  if (c.source_max_pixels != 0) options.source_limits.max_pixels = static_cast<uint64_t>(c.source_max_pixels);
  if (c.source_max_mib != 0) options.source_limits.max_memory = static_cast<uint64_t>(c.source_max_mib) << 20;
  if (c.source_max_scans != 0) options.source_limits.max_scans = c.source_max_scans;
}

void add_picture_options(CLI::App& command, ModelChoice& c) {
  command.add_option("--image-min-tokens", c.image_min_tokens, "enlarge pictures to at least this many tokens");
  command.add_option("--image-max-tokens", c.image_max_tokens, "shrink pictures to at most this many tokens");
  command.add_option("--image-min-pixels", c.image_min_pixels, "the same in pixels of the resized picture");
  command.add_option("--image-max-pixels", c.image_max_pixels, "the same in pixels of the resized picture");
  command.add_flag(
      "--dedup-patches", c.dedup_patches,
      "leave out blocks of a picture that repeat their neighbours exactly: faster on screens and documents, "
      "but answers may differ");
  command
      .add_option("--image-source-max-pixels", c.source_max_pixels, "refuse picture files of more; default: 178956970")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command
      .add_option("--image-source-max-memory", c.source_max_mib, "MiB that reading a picture may take; default: 256")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command.add_option("--image-source-max-scans", c.source_max_scans, "refuse JPEG files of more scans; default: 100")
      ->check(CLI::Range(1, 1 << 20));
}

}  // namespace

void add_model_files(CLI::App& command, ModelChoice& c) {
  command.add_option("-m,--model", c.model, "text model, GGUF (the first shard of a split one)")->required();
  command.add_option("--mmproj", c.mmproj, "vision encoder, GGUF");
}

void add_model_options(CLI::App& command, ModelChoice& c, const std::string& context) {
  c.ctx_size = command.add_option("-c,--ctx-size", c.n_ctx, context)->capture_default_str();
  command.add_option("-b,--batch-size", c.n_batch, "rows per prefill pass")->capture_default_str();
  command.add_option("-t,--threads", c.n_threads, "threads; 0: one per available CPU")->capture_default_str();
  add_picture_options(command, c);
  add_vision_precision(command, c.vision_precision);
  add_kv_type(command, "--kv-type", c.kv_type, "type of the key/value cache; q8_0 takes half the memory of f16");
  add_device_choice(command, c.where);
  command.add_option(
      "--pack-cache", c.pack_cache,
      "existing directory for packed weights, or auto for ~/.cache/glimpse (at most 16 GiB, the least used go first): "
      "the first load leaves them there (as large as the model), later loads read and check them, and start faster");
  command.add_flag(
      "--pack-cache-map", c.pack_cache_map,
      "map the packed weights instead of reading them: faster still and shared between processes, but who cuts "
      "or changes the file kills this process or changes its answers");
  command.add_flag("--reference", c.reference, "run on the slow scalar oracle instead of the kernels");
  command.add_flag("--verbose", c.verbose, "log, and the time of each stage, on stderr");
}

glimpse_model_params model_params(const ModelChoice& c) {
  glimpse_model_params params;
  glimpse_model_params_init(&params, sizeof params);
  params.model_path = c.model.c_str();
  if (!c.mmproj.empty()) params.mmproj_path = c.mmproj.c_str();
  params.n_threads = c.n_threads;
  params.vision_precision = vision_precision_number(c.vision_precision);
  params.use_reference = c.reference ? 1 : 0;
  set_device(c.where, params);
  params.log = c.verbose ? log_message : show_warning;
  if (!c.pack_cache.empty()) params.pack_cache_dir = c.pack_cache.c_str();
  params.pack_cache_map = c.pack_cache_map ? 1 : 0;
  return params;
}

glimpse_session_params session_params(const ModelChoice& c, int32_t context_length) {
  glimpse_session_params params;
  glimpse_session_params_init(&params, sizeof params);
  params.n_threads = c.n_threads;
  params.n_ctx = static_cast<int32_t>(context_of(c, context_length));
  params.n_batch = c.n_batch;
  params.kv_type = kv_type_number(c.kv_type);
  params.image_min_tokens = c.image_min_tokens;
  params.image_max_tokens = c.image_max_tokens;
  params.image_dedup = c.dedup_patches ? 1 : 0;
  if (c.image_min_pixels > 0) params.image_min_pixels = c.image_min_pixels;
  if (c.image_max_pixels > 0) params.image_max_pixels = c.image_max_pixels;
  if (c.source_max_pixels != 0) params.image_source_max_pixels = c.source_max_pixels;
  if (c.source_max_mib != 0) params.image_source_max_memory = c.source_max_mib * (1 << 20);
  if (c.source_max_scans != 0) params.image_source_max_scans = c.source_max_scans;
  params.log = c.verbose ? log_message : show_warning;
  params.cancel = interrupt_flag();
  return params;
}

ModelOptions model_options(const ModelChoice& c) {
  ModelOptions options;
  options.model_path = c.model;
  options.mmproj_path = c.mmproj;
  options.n_threads = c.n_threads;
  options.vision_precision = vision_precision(c.vision_precision);
  options.use_reference = c.reference;
  set_device(c.where, options);
  options.pack_cache_dir = c.pack_cache;
  options.map_packs = c.pack_cache_map;
  options.log = log_sink(c);
  return options;
}

EngineOptions engine_options(const ModelChoice& c, int64_t context_length) {
  EngineOptions options;
  set_pictures(c, options);
  options.n_threads = c.n_threads;
  options.context = context_of(c, context_length);
  options.batch = c.n_batch;
  options.kv_element = kv_element(c.kv_type);
  options.log = log_sink(c);
  return options;
}

}  // namespace glimpse::cli
