#include "engine/model/config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace glimpse {
namespace {

constexpr uint64_t kMaxWidth = 1u << 20;  // far above any model; keeps products of two widths inside 64 bits
constexpr uint64_t kMaxHeadDim = 512;

// The value of a key that has to be there and lie in [1, limit].
Result<int64_t> size_key(const GgufFile& file, const std::string& key, uint64_t limit) {
  GLIMPSE_ASSIGN(const uint64_t value, file.require_uint(key));
  if (value == 0 || value > limit) {
    return make_error(ErrorCode::kCorrupt, "%s: %s is %d, want 1 to %d", file.path(), key, value, limit);
  }
  return static_cast<int64_t>(value);
}

// As size_key, but `fallback` where the key is absent.
Result<int64_t> size_key_or(const GgufFile& file, const std::string& key, uint64_t limit, int64_t fallback) {
  if (file.find(key) == nullptr) return fallback;
  return size_key(file, key, limit);
}

Result<double> positive_float_or(const GgufFile& file, const std::string& key, double fallback) {
  GLIMPSE_ASSIGN(const auto value, file.optional_float(key));
  if (!value) return fallback;
  if (!std::isfinite(*value) || *value <= 0) {
    return make_error(ErrorCode::kCorrupt, "%s: %s is %g, want a positive number", file.path(), key, *value);
  }
  return *value;
}

Result<const GgufTensor*> require_tensor(const GgufFile& file, const std::string& name) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) {
    return make_error(ErrorCode::kCorrupt, "%s: tensor %s is missing", file.path(), name);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    if (tensor->dims[i] == 0 || tensor->dims[i] > kMaxWidth * 16) {
      return make_error(ErrorCode::kCorrupt, "%s: %s has an impossible shape: %s", file.path(), name,
                        tensor->describe());
    }
  }
  return tensor;
}

std::string general_name(const GgufFile& file) {
  const auto name = file.optional_string("general.name");
  return name.ok() ? name->value_or("") : "";
}

bool flag(const GgufFile& file, const char* key) {
  const auto value = file.optional_bool(key);
  return value.ok() && value->value_or(false);
}

// ---------------------------------------------------------------------------------------------------- the decoder

Status check_text_architecture(const GgufFile& file, const std::string& architecture) {
  const char* path = file.path().c_str();
  if (architecture == "qwen2vl" || architecture == "qwen2") return {};
  if (architecture == "clip") {
    return make_error(ErrorCode::kUnsupported,
                      "%s is a vision encoder (general.architecture 'clip'), not a text model: give it as mmproj, and "
                      "the language model's GGUF as model",
                      path);
  }
  if (architecture == "qwen3vl" || architecture == "qwen3" || architecture == "qwen3vlmoe" ||
      architecture == "qwen3moe" || architecture == "qwen2moe") {
    return make_error(ErrorCode::kUnsupported, "%s: %s models are not supported yet (supported: qwen2vl, qwen2)", path,
                      architecture);
  }
  return make_error(ErrorCode::kUnsupported, "%s: unknown architecture '%s' (supported: qwen2vl, qwen2)", path,
                    architecture);
}

// Sections of the rotary embedding: how many pairs use the time, height and width position.
Status read_sections(const GgufFile& file, TextConfig& c) {
  const int64_t pairs = c.head_dim / 2;
  const std::string key = c.architecture + ".rope.dimension_sections";
  std::fill(std::begin(c.mrope_section), std::end(c.mrope_section), 0);
  GLIMPSE_ASSIGN(const std::vector<int64_t> sections, file.int_array(key));
  const bool given = std::any_of(sections.begin(), sections.end(), [](int64_t n) { return n != 0; });
  if (c.architecture == "qwen2") {
    c.mrope_section[0] = pairs;  // one-dimensional positions
    return {};
  }
  if (!given) {
    // Some third-party files lack the key. Released models share the pairs as 2 : 3 : 3.
    c.mrope_section[0] = pairs / 4;
    c.mrope_section[1] = (pairs - pairs / 4) / 2;
    c.mrope_section[2] = pairs - c.mrope_section[0] - c.mrope_section[1];
    return {};
  }
  if (sections.size() < 3 || sections.size() > 4) {
    return make_error(ErrorCode::kCorrupt, "%s: %s has %d entries, want 3 or 4", file.path(), key, sections.size());
  }
  int64_t total = 0;
  for (size_t i = 0; i < sections.size(); ++i) {
    if (sections[i] < 0 || sections[i] > pairs || (total += sections[i]) > pairs) {
      return make_error(ErrorCode::kCorrupt, "%s: %s does not fit the %d rotation pairs of a head", file.path(), key,
                        pairs);
    }
    c.mrope_section[i] = sections[i];
  }
  return {};
}

Status read_heads(const GgufFile& file, TextConfig& c) {
  const std::string& a = c.architecture;
  const char* path = file.path().c_str();
  GLIMPSE_ASSIGN(c.num_attention_heads, size_key(file, a + ".attention.head_count", 4096));
  GLIMPSE_ASSIGN(c.num_key_value_heads, size_key_or(file, a + ".attention.head_count_kv", 4096, c.num_attention_heads));
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    return make_error(ErrorCode::kCorrupt, "%s: %d query heads do not divide among %d key/value heads", path,
                      c.num_attention_heads, c.num_key_value_heads);
  }
  GLIMPSE_ASSIGN(c.head_dim,
                 size_key_or(file, a + ".attention.key_length", kMaxHeadDim, c.hidden_size / c.num_attention_heads));
  GLIMPSE_ASSIGN(const int64_t value_length, size_key_or(file, a + ".attention.value_length", kMaxHeadDim, c.head_dim));
  GLIMPSE_ASSIGN(const int64_t n_rot, size_key_or(file, a + ".rope.dimension_count", kMaxHeadDim, c.head_dim));
  if (c.head_dim < 2 || c.head_dim % 2 != 0 || c.head_dim > static_cast<int64_t>(kMaxHeadDim)) {
    return make_error(ErrorCode::kCorrupt, "%s: a head of %d values (want an even number up to %d)", path, c.head_dim,
                      kMaxHeadDim);
  }
  if (value_length != c.head_dim || n_rot != c.head_dim) {
    return make_error(ErrorCode::kUnsupported,
                      "%s: key length %d, value length %d and rotated length %d differ: not supported", path,
                      c.head_dim, value_length, n_rot);
  }
  return {};
}

Status check_rope_scaling(const GgufFile& file, const std::string& architecture) {
  GLIMPSE_ASSIGN(const auto scaling, file.optional_string(architecture + ".rope.scaling.type"));
  if (!scaling || scaling->empty() || *scaling == "none" || *scaling == "default" || *scaling == "mrope") return {};
  return make_error(ErrorCode::kUnsupported, "%s: rotary scaling '%s' is not supported", file.path(), scaling->c_str());
}

// -------------------------------------------------------------------------------------------- the vision encoder

// Which projector the file is for; older files say it in other keys.
Result<std::string> projector_type(const GgufFile& file) {
  for (const char* key : {"clip.projector_type", "clip.vision.projector_type"}) {
    GLIMPSE_ASSIGN(const auto value, file.optional_string(key));
    if (value && !value->empty()) return *value;
  }
  if (flag(file, "clip.has_qwen2vl_merger")) return std::string("qwen2vl_merger");
  return make_error(ErrorCode::kUnsupported,
                    "%s: neither clip.projector_type nor clip.has_qwen2vl_merger: unknown kind "
                    "of vision encoder (supported: qwen2vl_merger)",
                    file.path());
}

Status check_projector(const GgufFile& file) {
  const char* path = file.path().c_str();
  GLIMPSE_ASSIGN(const std::string type, projector_type(file));
  const char* family = nullptr;
  if (type == "qwen2.5vl_merger") family = "Qwen2.5-VL";
  if (type == "qwen2.5o") family = "Qwen2.5-Omni";
  if (type == "qwen3vl_merger") family = "Qwen3-VL";
  // Early conversions of Qwen2.5-VL call themselves qwen2vl_merger; their gated, RMS-normed blocks give them away.
  if (type == "qwen2vl_merger" &&
      (file.find_tensor("v.blk.0.ffn_gate.weight") != nullptr || flag(file, "clip.use_rms_norm"))) {
    family = "Qwen2.5-VL";
  }
  if (family != nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "%s is the vision encoder of %s (%s), which is not supported yet (supported: qwen2vl_merger)",
                      path, family, type);
  }
  if (type == "qwen2vl_merger") return {};
  return make_error(ErrorCode::kUnsupported, "%s: projector type '%s' is not supported (supported: qwen2vl_merger)",
                    path, type);
}

// Sizes that the tensors know better than the keys: legacy files carry wrong or no values.
Status read_vision_sizes(const GgufFile& file, VisionConfig& c) {
  const char* path = file.path().c_str();
  GLIMPSE_ASSIGN(const GgufTensor* patch, require_tensor(file, "v.patch_embd.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* up, require_tensor(file, "v.blk.0.ffn_up.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* down, require_tensor(file, "v.blk.0.ffn_down.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* merger, require_tensor(file, "mm.0.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* projection, require_tensor(file, "mm.2.weight"));
  if (patch->dims[0] != patch->dims[1] || patch->dims[2] != 3 || patch->dims[0] > 256 || patch->dims[3] > kMaxWidth) {
    return make_error(ErrorCode::kCorrupt, "%s: v.patch_embd.weight: want (patch, patch, 3, width), file has %s", path,
                      patch->describe());
  }
  c.patch.patch_size = static_cast<int64_t>(patch->dims[0]);
  c.hidden_size = static_cast<int64_t>(patch->dims[3]);
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

}  // namespace

Result<TextConfig> read_text_config(const GgufFile& file) {
  TextConfig c;
  GLIMPSE_ASSIGN(c.architecture, file.require_string("general.architecture"));
  GLIMPSE_TRY(check_text_architecture(file, c.architecture));
  c.name = general_name(file);
  const std::string& a = c.architecture;
  GLIMPSE_ASSIGN(c.hidden_size, size_key(file, a + ".embedding_length", kMaxWidth));
  GLIMPSE_ASSIGN(c.num_hidden_layers, size_key(file, a + ".block_count", 4096));
  GLIMPSE_ASSIGN(c.max_position_embeddings, size_key_or(file, a + ".context_length", 1u << 30, 32768));
  GLIMPSE_TRY(read_heads(file, c));
  GLIMPSE_TRY(read_sections(file, c));
  GLIMPSE_TRY(check_rope_scaling(file, a));
  GLIMPSE_ASSIGN(c.rope_theta, file.require_float(a + ".rope.freq_base"));
  if (!std::isfinite(c.rope_theta) || c.rope_theta < 1) {
    return make_error(ErrorCode::kCorrupt, "%s: %s.rope.freq_base is %g", file.path(), a, c.rope_theta);
  }
  GLIMPSE_ASSIGN(const double eps, positive_float_or(file, a + ".attention.layer_norm_rms_epsilon", 1e-6));
  c.rms_norm_eps = static_cast<float>(eps);

  GLIMPSE_ASSIGN(const GgufTensor* embedding, require_tensor(file, "token_embd.weight"));
  GLIMPSE_ASSIGN(const GgufTensor* gate, require_tensor(file, "blk.0.ffn_gate.weight"));
  c.vocab_size = static_cast<int64_t>(embedding->dims[1]);
  c.intermediate_size = static_cast<int64_t>(gate->dims[1]);
  c.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  return c;
}

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
  GLIMPSE_TRY(check_projector(file));
  GLIMPSE_TRY(read_vision_sizes(file, c));
  GLIMPSE_TRY(read_vision_heads(file, c));
  GLIMPSE_ASSIGN(c.num_hidden_layers,
                 size_key_or(file, "clip.vision.block_count", 4096, std::max<int64_t>(1, count_vision_blocks(file))));
  GLIMPSE_ASSIGN(const double eps, positive_float_or(file, "clip.vision.attention.layer_norm_epsilon", 1e-6));
  c.layer_norm_eps = static_cast<float>(eps);
  GLIMPSE_TRY(read_pixel_statistics(file, c.patch));
  if (flag(file, "clip.use_silu")) {
    return make_error(ErrorCode::kUnsupported, "%s: clip.use_silu is set; Qwen2-VL blocks use QuickGELU", file.path());
  }
  c.use_gelu = flag(file, "clip.use_gelu");
  return c;
}

}  // namespace glimpse
