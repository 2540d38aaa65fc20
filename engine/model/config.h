// What the metadata and tensor shapes of a GGUF pair say about a model. Dimension names are those of config.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/model/rotation.h"
#include "engine/preprocess/preprocess.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// What a model that does not speak makes of its rows (pooling_type, in its order).
enum class Pooling {
  kNone,  // it speaks
  kMean,  // the mean of all rows
  kCls,   // the first row
  kLast,  // the last row
  kRank,  // a classifier's scores of the last row
};
/// "none", "mean", "cls", "last", "rank".
const char* pooling_name(Pooling pooling);

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
  Rotation rotation;  // what all of rope comes to
  // Experts instead of one feed-forward network: Qwen2 and Qwen3 MoE. 0: none, and no meaning of the others.
  int64_t num_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;            // of one expert; from the tensors
  int64_t shared_expert_intermediate_size = 0;  // 0: no expert that all rows go through
  bool norm_topk_prob = false;                  // the weights of a row's experts are made to add up to 1
  /// Layers behind which rows of pictures get something added (DeepStack, Qwen3-VL): the first ones. A row of a
  /// picture's embedding has what goes into the decoder, then what goes behind each of these.
  int64_t num_deepstack_layers = 0;
  Pooling pooling = Pooling::kNone;
  int64_t num_labels = 0;           // of the classifier of Pooling::kRank
  std::vector<std::string> labels;  // their names; may be empty
  bool tied_embeddings = false;     // no output.weight: the head is token_embd

  /// Floats of a row of feed-forward activations.
  int64_t ffn_width() const {
    return num_experts == 0 ? intermediate_size
                            : num_experts_per_tok * moe_intermediate_size + shared_expert_intermediate_size;
  }
  /// Floats of a row of a picture's embedding.
  int64_t embedding_width() const { return hidden_size * (1 + num_deepstack_layers); }
  /// Positions of three axes, which only models that were trained on pictures have.
  bool sees_pictures() const { return mrope_section.count[1] > 0 && mrope_section.count[2] > 0; }
};

/// The vision encoder and merger. Families differ by what is here.
struct VisionConfig {
  std::string name;
  int64_t hidden_size = 0;        // embed_dim in config.json
  int64_t num_hidden_layers = 0;  // depth
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;  // from the tensors, never from feed_forward_length
  int64_t projection_dim = 0;     // rows of mm.2: the decoder's hidden_size
  float layer_norm_eps = 1e-6f;
  bool use_gelu = false;      // clip.use_gelu: tanh GELU in the blocks (Qwen3-VL); Qwen2-VL uses QuickGELU
  bool rms_norm = false;      // Qwen2.5-VL; LayerNorm otherwise
  bool gated_ffn = false;     // Qwen2.5-VL: SwiGLU
  bool patch_bias = false;    // Qwen3-VL
  bool joint_frames = false;  // both kernels of the patch embedding are one tensor, (patch, patch, 2, 3 * hidden_size)
  PatchConfig patch;          // patch_size, merge_size, mean, std
  /// Qwen2.5-VL: cells (merged patches) on a side of a window, outside of which a patch sees nothing; 0: no windows.
  int64_t window_cells = 0;
  std::vector<bool> full_attention;  // with windows: layers whose patches see all others, one entry a layer
  /// Qwen3-VL: positions on a side of the table that is stretched over a picture; 0: no table.
  int64_t position_side = 0;
  std::vector<int64_t>
      deepstack_layers;  // Qwen3-VL: blocks behind which the picture goes to the decoder too, ascending

  /// What the parts above were trained as: it decides what numbers in answers count and how time is told to the
  /// decoder.
  enum class Family { kQwen2, kQwen25, kQwen3 };
  Family family() const { return position_side > 0 ? Family::kQwen3 : rms_norm ? Family::kQwen25 : Family::kQwen2; }
  /// Floats of a row of a picture's embedding: what goes into the decoder, then what goes behind its first layers.
  int64_t embedding_width() const { return projection_dim * (1 + static_cast<int64_t>(deepstack_layers.size())); }
  /// Tokens of the smallest picture, in preprocessor_config.json of the released models.
  int64_t least_tokens() const { return position_side > 0 ? 64 : 4; }
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
