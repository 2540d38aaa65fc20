// The vision encoder's weights by their GGUF names, old and new.
#include <string>
#include <utility>

#include "engine/model/weights.h"

namespace glimpse {
namespace {

Result<QkvWeights> read_qkv(WeightReader& in, const VisionConfig& c, const std::string& block,
                            WeightPrecision precision) {
  QkvWeights w;
  w.n_heads = w.n_kv_heads = c.num_heads;
  w.head_dim = c.head_dim;
  const int64_t h = c.hidden_size;
  Linear* const parts[3] = {&w.q, &w.k, &w.v};
  const bool fused = !in.has(block + "attn_q.weight") && in.has(block + "attn_qkv.weight");
  const char* const names[3] = {"attn_q", "attn_k", "attn_v"};
  for (int i = 0; i < 3; ++i) {
    if (fused) {
      GLIMPSE_ASSIGN(*parts[i], in.linear_part(block + "attn_qkv", i * h, h, 3 * h, h, precision, Presence::kRequired));
    } else {
      GLIMPSE_ASSIGN(*parts[i], in.linear(block + names[i], h, h, precision, Presence::kRequired));
    }
  }
  return w;
}

// Converters before 2025-04 wrote fc1 as ffn_down and fc2 as ffn_up. The shapes tell, for each layer: a matrix called
// ffn_down that takes hidden_size inputs is fc1.
bool ffn_names_swapped(const WeightReader& in, const VisionConfig& c, const std::string& block) {
  const GgufTensor* up = in.find(block + "ffn_up.weight");
  const GgufTensor* down = in.find(block + "ffn_down.weight");
  const auto h = static_cast<uint64_t>(c.hidden_size);
  return up != nullptr && down != nullptr && down->dims[0] == h && up->dims[0] != h;
}

Result<VisionLayerWeights> read_layer(WeightReader& in, const VisionConfig& c, const std::string& block,
                                      WeightPrecision precision) {
  const int64_t h = c.hidden_size, f = c.intermediate_size;
  const bool swapped = ffn_names_swapped(in, c, block);
  const char* const fc1 = swapped ? "ffn_down" : "ffn_up";
  const char* const fc2 = swapped ? "ffn_up" : "ffn_down";
  const Norm::Kind norm = c.rms_norm ? Norm::Kind::kRms : Norm::Kind::kLayer;
  VisionLayerWeights w;
  GLIMPSE_ASSIGN(w.norm1, in.norm(block + "ln1", norm, h, c.layer_norm_eps));
  GLIMPSE_ASSIGN(w.qkv, read_qkv(in, c, block, precision));
  GLIMPSE_ASSIGN(w.attn_output, in.linear(block + "attn_out", h, h, precision, Presence::kRequired));
  GLIMPSE_ASSIGN(w.norm2, in.norm(block + "ln2", norm, h, c.layer_norm_eps));
  if (c.gated_ffn) {
    GLIMPSE_ASSIGN(w.gate, in.linear(block + "ffn_gate", f, h, precision, Presence::kRequired));
  }
  GLIMPSE_ASSIGN(w.fc1, in.linear(block + fc1, f, h, precision, Presence::kRequired));
  GLIMPSE_ASSIGN(w.fc2, in.linear(block + fc2, h, f, precision, Presence::kRequired));
  return w;
}

// The Conv3d over two frames, one kernel per frame. A still picture shows both the same frame: K0 f + K1 f.
Status read_patch_embedding(WeightReader& in, const VisionConfig& c, VisionWeights& w) {
  const std::string kernels[2] = {"v.patch_embd.weight", "v.patch_embd.weight.1"};
  const int64_t h = c.hidden_size, p = c.patch.patch_size;
  const int64_t patch_length = 3 * p * p;
  const auto side = static_cast<uint64_t>(p), width = static_cast<uint64_t>(h);
  const auto frames = [&](int64_t first, int64_t count) {
    if (c.joint_frames) {
      return in.sum_of_frames(kernels[0], {side, side, 2, 3 * width}, p * p, 2, first, count, h, patch_length);
    }
    const std::vector<std::string> names(kernels + first, kernels + first + count);
    return in.sum_of_tensors(names, {side, side, 3, width}, h, patch_length);
  };
  GLIMPSE_ASSIGN(w.patch_embed_still.weight, frames(0, 2));
  for (int i = 0; i < 2; ++i) {
    GLIMPSE_ASSIGN(w.patch_embed_frame[i].weight, frames(i, 1));
  }
  if (c.patch_bias) {
    GLIMPSE_ASSIGN(w.patch_embed_still.bias, in.vector("v.patch_embd.bias", 0, h, h));
    w.patch_embed_frame[0].bias = w.patch_embed_still.bias;
  }
  return {};
}

}  // namespace

Result<VisionWeights> read_vision_weights(WeightReader& in, const VisionConfig& c, WeightPrecision precision) {
  VisionWeights w;
  const int64_t h = c.hidden_size;
  GLIMPSE_TRY(read_patch_embedding(in, c, w));
  // Where positions are rotary only, old files carry a v.position_embd.weight of zeros.
  if (c.position_side > 0) {
    const auto n_positions = static_cast<uint64_t>(c.position_side * c.position_side);
    GLIMPSE_ASSIGN(w.positions, in.host_floats("v.position_embd.weight", {static_cast<uint64_t>(h), n_positions}));
  }
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    GLIMPSE_ASSIGN(VisionLayerWeights layer, read_layer(in, c, "v.blk." + std::to_string(i) + ".", precision));
    w.layers.push_back(std::move(layer));
  }
  const int64_t merged = h * c.patch.merge_size * c.patch.merge_size;
  const auto merger = [&](const std::string& norm, Norm::Kind kind, int64_t width, const std::string& fc1,
                          const std::string& fc2) -> Result<MergerWeights> {
    MergerWeights m;
    GLIMPSE_ASSIGN(m.norm, in.norm(norm, kind, width, c.layer_norm_eps));
    GLIMPSE_ASSIGN(m.fc1, in.linear(fc1, merged, merged, precision, Presence::kRequired));
    GLIMPSE_ASSIGN(m.fc2, in.linear(fc2, c.projection_dim, merged, precision, Presence::kRequired));
    return m;
  };
  const Norm::Kind kind = c.rms_norm ? Norm::Kind::kRms : Norm::Kind::kLayer;
  GLIMPSE_ASSIGN(w.merger, merger("v.post_ln", kind, h, "mm.0", "mm.2"));
  for (const int64_t layer : c.deepstack_layers) {
    const std::string tap = "v.deepstack." + std::to_string(layer) + ".";
    GLIMPSE_ASSIGN(MergerWeights m, merger(tap + "norm", Norm::Kind::kLayer, merged, tap + "fc1", tap + "fc2"));
    w.deepstack.push_back(std::move(m));
  }
  return w;
}

}  // namespace glimpse
