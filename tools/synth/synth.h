// Models to measure with: GGUF pairs with real shapes, types and metadata, and random weights whose activations keep a
// sane scale through all layers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "kernels/quant/mixture.h"

namespace glimpse {

/// Sizes as in config.json.
struct SynthText {
  std::string name = "qwen2-vl-2b";
  std::string architecture = "qwen2vl";  // or qwen2, qwen2moe, qwen3, qwen3moe, qwen3vl, qwen3vlmoe
  int64_t hidden_size = 1536, num_hidden_layers = 28, num_attention_heads = 12, num_key_value_heads = 2;
  int64_t head_dim = 128, intermediate_size = 8960, vocab_size = 151936, context_length = 32768;
  int64_t mrope_section[3] = {16, 24, 24};
  double rope_theta = 1e6;
  float rms_norm_eps = 1e-6f;
  bool tied = true;
  // Experts instead of one feed-forward network; 0: none.
  int64_t num_experts = 0, num_experts_per_tok = 0, moe_intermediate_size = 0, shared_expert_intermediate_size = 0;
  int64_t num_deepstack_layers = 0;  // qwen3vl*
};
enum class SynthTower { kQwen2, kQwen25, kQwen3 };
struct SynthVision {
  int64_t embed_dim = 1280, depth = 32, num_heads = 16, intermediate_size = 5120;
  int64_t patch_size = 14, projection_dim = 1536;
  float layer_norm_eps = 1e-6f;
  bool use_gelu = false;
  SynthTower tower = SynthTower::kQwen2;
  int64_t window_size = 112, full_attention_every = 8;  // kQwen25
  int64_t position_side = 48;                           // kQwen3
  std::vector<int64_t> deepstack_layers;                // kQwen3
};
struct SynthModel {
  SynthText text;
  SynthVision vision;
};

/// "qwen2-vl-2b" and the others that synth_preset_names() lists. Errors: kInvalidArgument lists the names.
Result<SynthModel> synth_preset(const std::string& name);
/// "qwen2-vl-2b, qwen2-vl-7b, ...".
std::string synth_preset_names();

struct SynthOptions {
  FileType type = FileType::kQ4_K_M;
  uint64_t seed = 1;
  std::string vocab_path;  // GGUF whose tokenizer keys are copied; empty: a placeholder
  bool overwrite = false;
  int n_threads = 1;
  std::function<bool(double fraction)> progress;  // false: cancel
};

/// Writes the text model. Errors: kInvalidArgument (sizes that do not fit together, a type that cannot be written, the
/// file exists), kIo, kCancelled; nothing is left behind.
Status synth_text(const SynthText& text, const SynthOptions& options, const std::string& path);
/// Writes the vision encoder (mmproj).
Status synth_vision(const SynthVision& vision, const SynthOptions& options, const std::string& path);

}  // namespace glimpse
