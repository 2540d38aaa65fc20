#include "engine/model/one_file.h"

#include <algorithm>
#include <charconv>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace glimpse {
namespace {

void replace(std::string& text, std::string_view from, std::string_view to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

// What Ollama calls otherwise. taps: the blocks behind which the encoder's DeepStack mergers stand, in their order.
Result<std::string> tensor_name(std::string name, const std::vector<int64_t>& taps, const char* path) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"v.patch_embed.", "v.patch_embd."},
      {"v.pos_embed.", "v.position_embd."},
      {".norm1.", ".ln1."},
      {".norm2.", ".ln2."},
      {".mlp.linear_fc1.", ".ffn_up."},
      {".mlp.linear_fc2.", ".ffn_down."},
      {"v.merger.linear_fc1", "mm.0"},
      {"v.merger.linear_fc2", "mm.2"},
      {"v.merger.norm", "v.post_ln"},
  };
  for (const auto& [from, to] : kNames) replace(name, from, to);
  constexpr std::string_view kTap = "v.deepstack_merger.";
  if (!name.starts_with(kTap)) return name;
  size_t number = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kTap.size(), end, number);
  if (error != std::errc() || number >= taps.size()) {
    return make_error(ErrorCode::kCorrupt, "%s: %s: the file names %d blocks for DeepStack", path, name, taps.size());
  }
  std::string renamed = "v.deepstack." + std::to_string(taps[number]) + std::string(rest, end);
  replace(renamed, ".linear_fc1", ".fc1");
  replace(renamed, ".linear_fc2", ".fc2");
  return renamed;
}

GgufValue text_value(std::string text) {
  GgufValue value;
  value.type = GgufType::kString;
  value.data = std::move(text);
  return value;
}

GgufValue halves() {
  const float half[3] = {0.5f, 0.5f, 0.5f};
  const auto bytes = std::as_bytes(std::span(half));
  GgufValue value;
  value.type = GgufType::kArray;
  value.element_type = GgufType::kFloat32;
  value.data = GgufNumbers(GgufType::kFloat32, {bytes.begin(), bytes.end()});
  return value;
}

}  // namespace

bool is_vision_tensor(std::string_view name) {
  return name.starts_with("v.") || name.starts_with("mm.");
}

bool has_vision_inside(const GgufFile& file) {
  const auto architecture = file.optional_string("general.architecture");
  if (!architecture.ok() || architecture.value().value_or("clip") == "clip") return false;
  const auto has = [&](const char* name) { return file.find_tensor(name) != nullptr; };
  const bool has_block = has("v.blk.0.ln1.weight") || has("v.blk.0.norm1.weight");
  return has_block && (has("v.patch_embd.weight") || has("v.patch_embed.weight"));
}

Result<GgufFile> vision_inside(const GgufFile& file) {
  GLIMPSE_ASSIGN(const std::string architecture, file.require_string("general.architecture"));
  const std::string prefix = architecture + ".vision.";
  GLIMPSE_ASSIGN(const std::vector<int64_t> taps, file.int_array(prefix + "deepstack_visual_indexes"));
  GgufNames names;
  for (const std::string& key : file.keys()) {
    if (key.starts_with(prefix)) names.keys.emplace(key, "clip.vision." + key.substr(prefix.size()));
    if (key.starts_with("clip.") || key == "general.name") names.keys.emplace(key, key);
  }
  for (const GgufTensor& tensor : file.tensors()) {
    if (!is_vision_tensor(tensor.name)) continue;
    GLIMPSE_ASSIGN(std::string name, tensor_name(tensor.name, taps, file.path().c_str()));
    names.tensors.emplace(tensor.name, std::move(name));
  }
  names.values.emplace("general.architecture", text_value("clip"));
  const bool qwen3 = architecture.starts_with("qwen3");
  if (file.find("clip.projector_type") == nullptr && file.find("clip.vision.projector_type") == nullptr) {
    const char* const projector = qwen3                                                    ? "qwen3vl_merger"
                                  : file.find_tensor("v.blk.0.ffn_gate.weight") != nullptr ? "qwen2.5vl_merger"
                                                                                           : "qwen2vl_merger";
    names.values.emplace("clip.projector_type", text_value(projector));
  }
  // What Qwen3-VL's preprocessor has; files that do not say it are of that kind.
  for (const char* key : {"image_mean", "image_std"}) {
    const bool said = file.find(prefix + key) != nullptr || file.find(std::string("clip.vision.") + key) != nullptr;
    if (qwen3 && !said) names.values.emplace(std::string("clip.vision.") + key, halves());
  }
  return file.renamed(names);
}

}  // namespace glimpse
