// All weights of the two forward passes, by the names the passes use. GGUF tensor names occur in weights_text.cpp,
// weights_vision.cpp and config_*.cpp alone.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/weight_reader.h"
#include "engine/runtime/ops.h"

namespace glimpse {

struct DecoderLayerWeights {
  Norm attn_norm;                  // RMS, (hidden_size)
  QkvWeights qkv;                  // q: (heads * head_dim, hidden_size), k and v: (kv_heads * head_dim, hidden_size)
  Linear attn_output;              // (hidden_size, heads * head_dim)
  Norm ffn_norm;                   // RMS, (hidden_size)
  Linear ffn_gate;                 // (intermediate_size, hidden_size)
  Linear ffn_up;                   // (intermediate_size, hidden_size)
  Linear ffn_down;                 // (hidden_size, intermediate_size)
  std::vector<int32_t> wide_keys;  // (kv_heads, n_wide): wide_key_channels() of the keys' bias
  std::optional<ExpertWeights> experts;  // instead of the three, where the model has any
};

struct TextWeights {
  std::shared_ptr<const PackedWeight> token_embd;  // (vocab_size, hidden_size)
  std::vector<DecoderLayerWeights> layers;
  Norm output_norm;   // RMS, (hidden_size)
  Linear output;      // (vocab_size, hidden_size); shares token_embd when tied
  Linear classifier;  // (num_labels, hidden_size), of rerankers
};

struct VisionLayerWeights {
  Norm norm1;          // (hidden_size)
  QkvWeights qkv;      // (hidden_size, hidden_size) each, with bias
  Linear attn_output;  // (hidden_size, hidden_size), with bias
  Norm norm2;          // (hidden_size)
  Linear gate;         // (intermediate_size, hidden_size), with bias; gated feed-forward networks only
  Linear fc1;          // (intermediate_size, hidden_size), with bias
  Linear fc2;          // (hidden_size, intermediate_size), with bias
};

/// merge_size^2 neighbouring patches to one row for the decoder.
struct MergerWeights {
  Norm norm;   // over hidden_size, per patch; of DeepStack over all patches of the row
  Linear fc1;  // (merge_size^2 * hidden_size, merge_size^2 * hidden_size), with bias
  Linear fc2;  // (projection_dim, merge_size^2 * hidden_size), with bias
};

struct VisionWeights {
  Linear patch_embed_still;     // (hidden_size, 3 * patch_size^2): both temporal kernels added, in float
  Linear patch_embed_frame[2];  // (hidden_size, 3 * patch_size^2) each: for two different frames; a bias is the first's
  std::vector<VisionLayerWeights> layers;
  std::vector<float> positions;  // (position_side^2, hidden_size), in host memory
  MergerWeights merger;
  std::vector<MergerWeights> deepstack;  // of each of deepstack_layers
};

/// All weights of one side, from a reader that checks (the result is empty of weights then) or loads. Every tensor's
/// shape and type is checked, so that the passes have no error paths.
/// Errors: kCorrupt (a missing tensor, a wrong shape: names what was wanted and found), kUnsupported (a type by name),
/// kNumeric, kOutOfMemory, kIo, kCancelled.
Result<TextWeights> read_text_weights(WeightReader& reader, const TextConfig& config, WeightPrecision precision);
/// precision: of the matrices of blocks and merger; the patch embedding is always float.
Result<VisionWeights> read_vision_weights(WeightReader& reader, const VisionConfig& config, WeightPrecision precision);

}  // namespace glimpse
