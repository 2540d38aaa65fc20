#include "kernels/quant/mixture.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace glimpse {
namespace {

struct FileTypeInfo {
  FileType type;
  const char* name;
  std::optional<DType> base = {};
};

constexpr FileTypeInfo kFileTypes[] = {
    {FileType::kF32, "F32", DType::kF32},
    {FileType::kF16, "F16", DType::kF16},
    {FileType::kQ4_0, "Q4_0", DType::kQ4_0},
    {FileType::kQ4_1, "Q4_1", DType::kQ4_1},
    {FileType::kQ8_0, "Q8_0", DType::kQ8_0},
    {FileType::kQ5_0, "Q5_0", DType::kQ5_0},
    {FileType::kQ5_1, "Q5_1", DType::kQ5_1},
    {FileType::kQ2_K, "Q2_K", DType::kQ2_K},
    {FileType::kQ3_K_S, "Q3_K_S", DType::kQ3_K},
    {FileType::kQ3_K_M, "Q3_K_M", DType::kQ3_K},
    {FileType::kQ3_K_L, "Q3_K_L", DType::kQ3_K},
    {FileType::kQ4_K_S, "Q4_K_S", DType::kQ4_K},
    {FileType::kQ4_K_M, "Q4_K_M", DType::kQ4_K},
    {FileType::kQ5_K_S, "Q5_K_S", DType::kQ5_K},
    {FileType::kQ5_K_M, "Q5_K_M", DType::kQ5_K},
    {FileType::kQ6_K, "Q6_K", DType::kQ6_K},
    {FileType::kIQ2_XXS, "IQ2_XXS"},
    {FileType::kIQ2_XS, "IQ2_XS"},
    {FileType::kQ2_K_S, "Q2_K_S", DType::kQ2_K},
    {FileType::kIQ3_XS, "IQ3_XS"},
    {FileType::kIQ3_XXS, "IQ3_XXS"},
    {FileType::kIQ1_S, "IQ1_S"},
    {FileType::kIQ4_NL, "IQ4_NL", DType::kIQ4_NL},
    {FileType::kIQ3_S, "IQ3_S"},
    {FileType::kIQ3_M, "IQ3_M"},
    {FileType::kIQ2_S, "IQ2_S"},
    {FileType::kIQ2_M, "IQ2_M"},
    {FileType::kIQ4_XS, "IQ4_XS", DType::kIQ4_XS},
    {FileType::kIQ1_M, "IQ1_M"},
    {FileType::kBF16, "BF16", DType::kBF16},
    {FileType::kTQ1_0, "TQ1_0"},
    {FileType::kTQ2_0, "TQ2_0"},
    {FileType::kMXFP4_MoE, "MXFP4_MOE"},
    {FileType::kNVFP4, "NVFP4"},
    {FileType::kQ1_0, "Q1_0"},
    {FileType::kQ2_0, "Q2_0"},
};

constexpr FileTypeInfo kAliases[] = {
    {FileType::kQ3_K_M, "Q3_K"},
    {FileType::kQ4_K_M, "Q4_K"},
    {FileType::kQ5_K_M, "Q5_K"},
};

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool equal_ignoring_case(std::string_view text, std::string_view upper) {
  return std::equal(text.begin(), text.end(), upper.begin(), upper.end(),
                    [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; });
}

/// Dimensions without trailing ones.
size_t effective_dims(std::span<const uint64_t> dims) {
  size_t n = dims.size();
  while (n > 0 && dims[n - 1] == 1) --n;
  return n;
}

/// The number after the first "blk."; 0 when there is none (or one that no model has).
int layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  constexpr int kMaxLayer = 100000;
  const size_t at = name.find(kPrefix);
  if (at == std::string_view::npos) return 0;
  int layer = 0;
  for (const char c : name.substr(at + kPrefix.size())) {
    if (c < '0' || c > '9' || layer > kMaxLayer) break;
    layer = 10 * layer + (c - '0');
  }
  return layer;
}

/// Groups of heads that share one k and v head: query heads per k/v head.
int heads_per_kv_head(const MixtureModel& model) {
  return model.n_kv_heads > 0 ? model.n_heads / model.n_kv_heads : 0;
}

DType output_dtype(DType base, uint64_t row_length) {
  if (base == DType::kQ8_0 || row_length % dtype_info(base).block_length != 0) return DType::kQ8_0;
  return DType::kQ6_K;
}

DType value_dtype(FileType type, DType base, const MixtureModel& model, int layer) {
  const bool grouped = heads_per_kv_head(model) >= 4;  // a small tensor then: more bits cost little
  switch (type) {
    case FileType::kQ2_K:
      return grouped ? DType::kQ4_K : DType::kQ3_K;
    case FileType::kQ2_K_S:
      return grouped ? DType::kQ4_K : base;
    case FileType::kQ3_K_M:
      return layer < 2 ? DType::kQ5_K : DType::kQ4_K;
    case FileType::kQ3_K_L:
      return DType::kQ5_K;
    case FileType::kQ4_K_S:
      return layer < 4 ? DType::kQ5_K : base;
    case FileType::kQ4_K_M:
    case FileType::kQ5_K_M:
      return use_more_bits(layer, model.n_layers) ? DType::kQ6_K : base;
    case FileType::kIQ4_NL:
    case FileType::kIQ4_XS:
      return grouped ? DType::kQ5_K : base;
    default:
      return base;
  }
}

DType ffn_down_dtype(FileType type, DType base, const MixtureModel& model, int layer) {
  const bool first_eighth = layer < model.n_layers / 8;
  switch (type) {
    case FileType::kQ2_K:
      return DType::kQ3_K;
    case FileType::kQ2_K_S:
      return first_eighth ? DType::kQ4_K : base;
    case FileType::kQ3_K_M:
      return layer < model.n_layers / 16 ? DType::kQ5_K : DType::kQ4_K;
    case FileType::kQ3_K_L:
      return DType::kQ5_K;
    case FileType::kQ4_K_S:
      return first_eighth ? DType::kQ5_K : base;
    case FileType::kQ4_K_M:
    case FileType::kQ5_K_M:
      return use_more_bits(layer, model.n_layers) ? DType::kQ6_K : base;
    case FileType::kIQ4_NL:
    case FileType::kIQ4_XS:
      return first_eighth && !model.has_importance ? DType::kQ5_K : base;
    case FileType::kQ4_0:
      return first_eighth && model.has_importance ? DType::kQ4_1 : base;
    case FileType::kQ5_0:
      return first_eighth && model.has_importance ? DType::kQ5_1 : base;
    default:
      return base;
  }
}

DType attention_output_dtype(FileType type, DType base) {
  if (type == FileType::kQ2_K) return DType::kQ3_K;
  if (type == FileType::kQ3_K_M) return DType::kQ4_K;
  return type == FileType::kQ3_K_L ? DType::kQ5_K : base;
}

// Types of 256 values, and those of 32 that take their place in rows that are no multiple of 256.
constexpr std::pair<DType, DType> kFallbacks[] = {
    {DType::kQ2_K, DType::kQ4_0}, {DType::kQ3_K, DType::kQ4_0}, {DType::kQ4_K, DType::kQ5_0},
    {DType::kQ5_K, DType::kQ5_1}, {DType::kQ6_K, DType::kQ8_0}, {DType::kIQ4_XS, DType::kIQ4_NL},
};

}  // namespace

const char* file_type_name(uint32_t id) {
  constexpr uint32_t kGuessed = 1024;
  for (const FileTypeInfo& row : kFileTypes) {
    if (static_cast<uint32_t>(row.type) == (id & ~kGuessed)) return row.name;
  }
  return nullptr;
}

std::optional<FileType> file_type_from_name(std::string_view name) {
  for (const FileTypeInfo& row : kFileTypes) {
    if (equal_ignoring_case(name, row.name)) return row.type;
  }
  for (const FileTypeInfo& row : kAliases) {
    if (equal_ignoring_case(name, row.name)) return row.type;
  }
  return std::nullopt;
}

std::optional<DType> file_type_base(FileType type) {
  for (const FileTypeInfo& row : kFileTypes) {
    if (row.type == type) return row.base;
  }
  return std::nullopt;
}

bool use_more_bits(int layer, int n_layers) {
  const int eighth = n_layers / 8;
  return layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2;
}

bool is_quantized_tensor(std::string_view name, std::span<const uint64_t> dims) {
  return effective_dims(dims) >= 2 && name.ends_with("weight") && !contains(name, "_norm.weight") &&
         !contains(name, ".position_embd") && !contains(name, ".patch_embd") && !contains(name, ".patch_merger") &&
         !contains(name, "ffn_gate_inp");
}

DType fallback_dtype(DType type, uint64_t row_length) {
  if (row_length % dtype_info(type).block_length == 0) return type;
  DType smaller = type;
  for (const auto& [large, other] : kFallbacks) {
    if (large == type) smaller = other;
  }
  return row_length % dtype_info(smaller).block_length == 0 ? smaller : DType::kF16;
}

DType mixture_dtype(FileType type, const MixtureModel& model, const MixtureTensor& tensor) {
  const std::optional<DType> base = file_type_base(type);
  if (!base || !is_quantized_tensor(tensor.name, tensor.dims)) return tensor.source;
  if (dtype_info(*base).block_length == 1) return *base;  // F32, F16, BF16: no mixture

  const std::string_view name = tensor.name;
  const uint64_t row_length = tensor.dims[0];
  const int layer = tensor.layer >= 0 ? tensor.layer : layer_of(name);
  DType chosen = *base;
  if (name == "output.weight" || (name == "token_embd.weight" && model.tied_output)) {
    chosen = output_dtype(*base, row_length);
  } else if (contains(name, "attn_v.weight") || contains(name, "attn_qkv.weight")) {
    chosen = value_dtype(type, *base, model, layer);
  } else if (contains(name, "attn_output.weight")) {
    chosen = attention_output_dtype(type, *base);
  } else if (contains(name, "ffn_down")) {
    chosen = ffn_down_dtype(type, *base, model, layer);
  }
  return fallback_dtype(chosen, row_length);
}

DType converted_dtype(FileType type, std::string_view name, std::span<const uint64_t> dims) {
  if (dims.size() < 2 || name.ends_with("_norm.weight") || contains(name, ".position_embd")) return DType::kF32;
  if (contains(name, ".patch_embd.weight") || contains(name, ".patch_merger.weight")) {
    return type == FileType::kF16 ? DType::kF16 : DType::kF32;
  }
  if (!name.ends_with(".weight")) return DType::kF32;
  switch (type) {
    case FileType::kF32:
      return DType::kF32;
    case FileType::kBF16:
      return DType::kBF16;
    case FileType::kQ8_0:
      return fallback_dtype(DType::kQ8_0, dims[0]);
    default:
      return DType::kF16;
  }
}

}  // namespace glimpse
