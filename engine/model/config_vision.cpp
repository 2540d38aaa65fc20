// What the keys of a vision encoder say.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/config_keys.h"

namespace glimpse {
namespace {

enum class VisionFamily { kQwen2, kQwen25, kQwen3 };
constexpr const char* kProjectors = "qwen2vl_merger, qwen2.5vl_merger, qwen3vl_merger";

// Which projector the file is for; older files say it in other keys.
Result<std::string> projector_type(const GgufFile& file) {
  for (const char* key : {"clip.projector_type", "clip.vision.projector_type"}) {
    GLIMPSE_ASSIGN(const auto value, file.optional_string(key));
    if (value && !value->empty()) return *value;
  }
  if (flag(file, "clip.has_qwen2vl_merger")) return std::string("qwen2vl_merger");
  return make_error(ErrorCode::kUnsupported,
                    "%s: neither clip.projector_type nor clip.has_qwen2vl_merger: unknown kind "
                    "of vision encoder (supported: %s)",
                    file.path(), kProjectors);
}

Result<VisionFamily> vision_family(const GgufFile& file) {
  GLIMPSE_ASSIGN(const std::string type, projector_type(file));
  // Early conversions of Qwen2.5-VL call themselves qwen2vl_merger; their gated, RMS-normed blocks give them away.
  const bool gated = file.find_tensor("v.blk.0.ffn_gate.weight") != nullptr || flag(file, "clip.use_rms_norm");
  if (type == "qwen2vl_merger") return gated ? VisionFamily::kQwen25 : VisionFamily::kQwen2;
  if (type == "qwen2.5vl_merger" || type == "qwen2.5o") return VisionFamily::kQwen25;  // the latter beside audio
  if (type == "qwen3vl_merger") return VisionFamily::kQwen3;
  return make_error(ErrorCode::kUnsupported, "%s: projector type '%s' is not supported (supported: %s)", file.path(),
                    type, kProjectors);
}

// Sizes that the tensors know better than the keys: legacy files carry wrong or no values.
Status read_vision_sizes(const GgufFile& file, VisionConfig& c) {
  const char* path = file.path().c_str();
  GLIMPSE_ASSIGN(const GgufTensor* patch, require_tensor(file, "v.patch_embd.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* up, require_tensor(file, "v.blk.0.ffn_up.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* down, require_tensor(file, "v.blk.0.ffn_down.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* merger, require_tensor(file, "mm.0.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* projection, require_tensor(file, "mm.2.weight"));
  // One file of text and vision (Ollama): both frames' kernels, the frame between the channel and the pixel.
  c.joint_frames = patch->dims[2] == 2 && patch->dims[3] % 3 == 0;
  if (patch->dims[0] != patch->dims[1] || (patch->dims[2] != 3 && !c.joint_frames) || patch->dims[0] > 256 ||
      patch->dims[3] > kMaxWidth) {
    return make_error(ErrorCode::kCorrupt, "%s: v.patch_embd.weight: want (patch, patch, 3, width), file has %s", path,
                      patch->describe());
  }
  c.patch.patch_size = static_cast<int64_t>(patch->dims[0]);
  c.hidden_size = static_cast<int64_t>(patch->dims[3]) / (c.joint_frames ? 3 : 1);
  c.projection_dim = static_cast<int64_t>(projection->dims[1]);
  const auto width = static_cast<uint64_t>(c.hidden_size);
  const GgufTensor* expand = down->dims[0] == width && up->dims[0] != width ? down : up;  // names swapped in old files
  c.intermediate_size = static_cast<int64_t>(expand->dims[1]);

  GLIMPSE_ASSIGN(const int64_t patch_key, size_key_or(file, "clip.vision.patch_size", 256, c.patch.patch_size));
  GLIMPSE_ASSIGN(const int64_t width_key, size_key_or(file, "clip.vision.embedding_length", kMaxWidth, c.hidden_size));
  if (patch_key != c.patch.patch_size || width_key != c.hidden_size) {
    return make_error(ErrorCode::kCorrupt, "%s: the keys say patches of %d and width %d, v.patch_embd.weight is %s",
                      path, patch_key, width_key, patch->describe());
  }
  GLIMPSE_ASSIGN(c.patch.merge_size, size_key_or(file, "clip.vision.spatial_merge_size", 16, 2));
  const auto merged = static_cast<uint64_t>(c.hidden_size * c.patch.merge_size * c.patch.merge_size);
  if (merger->dims[0] != merged) {
    return make_error(ErrorCode::kCorrupt, "%s: mm.0.weight: want %d inputs (%d patches of width %d), file has %s",
                      path, merged, c.patch.merge_size * c.patch.merge_size, c.hidden_size, merger->describe());
  }
  return {};
}

int64_t count_vision_blocks(const GgufFile& file) {
  int64_t n = 0;
  while (file.find_tensor("v.blk." + std::to_string(n) + ".ln1.weight") != nullptr) ++n;
  return n;
}

Status read_vision_heads(const GgufFile& file, VisionConfig& c) {
  GLIMPSE_ASSIGN(c.num_heads, size_key(file, "clip.vision.attention.head_count", 4096));
  c.head_dim = c.hidden_size / c.num_heads;
  if (c.head_dim * c.num_heads != c.hidden_size || c.head_dim % 4 != 0 ||
      c.head_dim > static_cast<int64_t>(kMaxHeadDim)) {
    return make_error(ErrorCode::kCorrupt,
                      "%s: a vision width of %d does not divide into %d heads of a multiple of 4 values", file.path(),
                      c.hidden_size, c.num_heads);
  }
  return {};
}

Status read_pixel_statistics(const GgufFile& file, PatchConfig& patch) {
  for (const auto& [key, out] : {std::pair<const char*, float*>{"clip.vision.image_mean", patch.mean},
                                 std::pair<const char*, float*>{"clip.vision.image_std", patch.std}}) {
    GLIMPSE_ASSIGN(const std::vector<double> values, file.float_array(key));
    if (values.empty()) continue;  // the CLIP values that PatchConfig starts with
    if (values.size() < 3) {
      return make_error(ErrorCode::kCorrupt, "%s: %s has %d entries, want 3", file.path(), key, values.size());
    }
    for (size_t i = 0; i < 3; ++i) {
      out[i] = static_cast<float>(values[i]);
      if (!std::isfinite(out[i]) || (out == patch.std && out[i] <= 0)) {
        return make_error(ErrorCode::kCorrupt, "%s: %s holds %g", file.path(), key, values[i]);
      }
    }
  }
  return {};
}

// Windows and the layers without them. n_wa_pattern: every so many layers one is without; early files list them.
Status read_windows(const GgufFile& file, VisionConfig& c) {
  const auto n_layers = static_cast<size_t>(c.num_hidden_layers);
  GLIMPSE_ASSIGN(const auto pattern, file.optional_uint("clip.vision.n_wa_pattern"));
  GLIMPSE_ASSIGN(const std::vector<int64_t> listed, file.int_array("clip.vision.fullatt_block_indexes"));
  if (pattern.value_or(0) == 0 && listed.empty()) return {};  // all layers are without
  GLIMPSE_ASSIGN(const int64_t window_size, size_key_or(file, "clip.vision.window_size", kMaxWidth, 112));
  c.window_cells = window_size / c.patch.patch_size / c.patch.merge_size;
  if (c.window_cells == 0) {
    return make_error(ErrorCode::kCorrupt, "%s: windows of %d pixels hold no %d patches of %d", file.path(),
                      window_size, c.patch.merge_size, c.patch.patch_size);
  }
  c.full_attention.assign(n_layers, false);
  for (const int64_t layer : listed) {
    if (layer < 0 || layer >= c.num_hidden_layers) {
      return make_error(ErrorCode::kCorrupt, "%s: clip.vision.fullatt_block_indexes names layer %d of %d", file.path(),
                        layer, c.num_hidden_layers);
    }
    c.full_attention[static_cast<size_t>(layer)] = true;
  }
  for (size_t i = 0; listed.empty() && i < n_layers; ++i) c.full_attention[i] = (i + 1) % *pattern == 0;
  return {};
}

// The table of positions and the blocks that feed the decoder's first layers.
Status read_qwen3_vision(const GgufFile& file, VisionConfig& c) {
  GLIMPSE_ASSIGN(const GgufTensor* table, require_tensor(file, "v.position_embd.weight"));
  while (c.position_side * c.position_side < static_cast<int64_t>(table->dims[1]) && c.position_side < 4096) {
    ++c.position_side;
  }
  if (c.position_side * c.position_side != static_cast<int64_t>(table->dims[1])) {
    return make_error(ErrorCode::kCorrupt,
                      "%s: v.position_embd.weight: want a square of positions of %d values, file has %s", file.path(),
                      c.hidden_size, table->describe());
  }
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    if (file.find_tensor("v.deepstack." + std::to_string(i) + ".fc1.weight") != nullptr)
      c.deepstack_layers.push_back(i);
  }
  return {};
}

}  // namespace

Result<VisionConfig> read_vision_config(const GgufFile& file) {
  GLIMPSE_ASSIGN(const std::string architecture, file.require_string("general.architecture"));
  if (architecture != "clip") {
    return make_error(
        ErrorCode::kUnsupported,
        "%s is a text model (general.architecture '%s'), not an mmproj file: the vision encoder lies in a "
        "file of its own, often called mmproj-*.gguf",
        file.path(), architecture);
  }
  VisionConfig c;
  c.name = general_name(file);
  GLIMPSE_ASSIGN(const VisionFamily family, vision_family(file));
  GLIMPSE_TRY(read_vision_sizes(file, c));
  GLIMPSE_TRY(read_vision_heads(file, c));
  GLIMPSE_ASSIGN(c.num_hidden_layers,
                 size_key_or(file, "clip.vision.block_count", 4096, std::max<int64_t>(1, count_vision_blocks(file))));
  GLIMPSE_ASSIGN(const double eps, positive_float_or(file, "clip.vision.attention.layer_norm_epsilon", 1e-6));
  c.layer_norm_eps = static_cast<float>(eps);
  GLIMPSE_TRY(read_pixel_statistics(file, c.patch));
  c.use_gelu = flag(file, "clip.use_gelu");
  switch (family) {
    case VisionFamily::kQwen2:
      if (flag(file, "clip.use_silu")) {
        return make_error(ErrorCode::kUnsupported, "%s: clip.use_silu is set; Qwen2-VL blocks use QuickGELU",
                          file.path());
      }
      break;
    case VisionFamily::kQwen25:
      c.rms_norm = c.gated_ffn = true;
      GLIMPSE_TRY(read_windows(file, c));
      break;
    case VisionFamily::kQwen3:
      c.use_gelu = c.patch_bias = true;
      GLIMPSE_TRY(read_qwen3_vision(file, c));
      break;
  }
  return c;
}

}  // namespace glimpse
