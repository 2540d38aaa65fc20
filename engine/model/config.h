// What the metadata and tensor shapes of a GGUF pair say about a model. Dimension names are those of config.json.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"
#include "engine/model/rotation.h"
#include "engine/preprocess/preprocess.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// The decoder. Families differ by what is here.
struct TextConfig {
  std::string architecture;       // general.architecture
  std::string name;               // general.name, may be empty
  int64_t hidden_size = 0;        // embedding_length
  int64_t num_hidden_layers = 0;  // block_count
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;        // from the tensors
  int64_t vocab_size = 0;               // rows of token_embd
  int64_t max_position_embeddings = 0;  // context_length
  double rope_theta = 1e6;
  float rms_norm_eps = 1e-6f;
  bool qkv_bias = true;        // Qwen2
  bool qk_norm = false;        // Qwen3: RMSNorm over each head of queries and keys, before they turn
  RopeSections mrope_section;  // pairs that use the t, h, w position
  RopeScaling rope_scaling;
  Rotation rotation;             // what all of rope comes to
  bool tied_embeddings = false;  // no output.weight: the head is token_embd

  /// Positions of three axes, which only models that were trained on pictures have.
  bool sees_pictures() const { return mrope_section.count[1] > 0 && mrope_section.count[2] > 0; }
};

/// The vision encoder and merger (clip / qwen2vl_merger).
struct VisionConfig {
  std::string name;
  int64_t hidden_size = 0;        // embed_dim in config.json
  int64_t num_hidden_layers = 0;  // depth
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;  // from the tensors, never from feed_forward_length
  int64_t projection_dim = 0;     // rows of mm.2: the decoder's hidden_size
  float layer_norm_eps = 1e-6f;
  bool use_gelu = false;  // clip.use_gelu: tanh GELU in the blocks; released models use QuickGELU
  PatchConfig patch;      // patch_size, merge_size, mean, std

  /// Pixels per token side: patch_size * merge_size.
  int64_t resize_factor() const { return patch.patch_size * patch.merge_size; }
};

/// Errors name the key or tensor, what was expected and what was found: kUnsupported (another architecture: a clip file
/// given as text model says so), kCorrupt (sizes that contradict one another, a missing tensor), kNotFound (a missing
/// key).
Result<TextConfig> read_text_config(const GgufFile& file);
/// Errors likewise; a text model given as mmproj says so; kUnsupported names other projector types.
Result<VisionConfig> read_vision_config(const GgufFile& file);

}  // namespace glimpse
