#include "tools/quantize/plan.h"

#include <algorithm>
#include <charconv>

#include "kernels/quant/quant.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

constexpr const char* kTextArchitectures[] = {"qwen2vl",  "qwen2",    "qwen3vl",   "qwen3",
                                              "qwen2moe", "qwen3moe", "qwen3vlmoe"};
constexpr std::string_view kEmbedding = "token_embd.weight", kOutput = "output.weight";

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::span<const uint64_t> dims_of(const GgufTensor& tensor) {
  return {tensor.dims, tensor.n_dims};
}

bool is_value_matrix(std::string_view name) {
  return contains(name, "attn_v.weight") || contains(name, "attn_qkv.weight");
}

// The number after a leading "blk.", or -1: by it and then by name llama.cpp orders what it counts.
int leading_layer(std::string_view name) {
  int layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

bool comes_first(const std::string& a, const std::string& b) {
  const int layer_a = leading_layer(a), layer_b = leading_layer(b);
  return layer_a != layer_b ? layer_a < layer_b : a < b;
}

// What the choice of a type depends on besides the tensor.
struct Facts {
  MixtureModel model;
  bool is_vision = false, has_70b_rule = false;
  std::vector<std::string> value_matrices;  // in llama.cpp's order
};

Result<Facts> read_facts(const GgufFile& file, bool has_importance) {
  GLIMPSE_ASSIGN(const std::string architecture, file.require_string("general.architecture"));
  Facts facts;
  facts.model.has_importance = has_importance;
  facts.model.tied_output = file.find_tensor(kOutput) == nullptr;
  if (architecture == "clip") {
    facts.is_vision = true;
    for (const GgufTensor& tensor : file.tensors()) {
      if (is_value_matrix(tensor.name)) facts.value_matrices.push_back(tensor.name);
    }
    std::sort(facts.value_matrices.begin(), facts.value_matrices.end(), comes_first);
    return facts;
  }
  if (std::find(std::begin(kTextArchitectures), std::end(kTextArchitectures), architecture) ==
      std::end(kTextArchitectures)) {
    return make_error(ErrorCode::kUnsupported,
                      "%s: which types its tensors should get is not known for architecture %s (known: qwen2vl, qwen2, "
                      "qwen3vl, qwen3, qwen2moe, qwen3moe, qwen3vlmoe, clip)",
                      file.path(), quoted(architecture));
  }
  GLIMPSE_ASSIGN(const uint64_t n_layers, file.require_uint(architecture + ".block_count"));
  GLIMPSE_ASSIGN(const uint64_t n_heads, file.require_uint(architecture + ".attention.head_count"));
  GLIMPSE_ASSIGN(const auto n_kv_heads, file.optional_uint(architecture + ".attention.head_count_kv"));
  constexpr uint64_t kMost = 1 << 20;
  facts.model.n_layers = static_cast<int>(std::min(n_layers, kMost));
  facts.model.n_heads = static_cast<int>(std::min(n_heads, kMost));
  facts.model.n_kv_heads = static_cast<int>(std::min(n_kv_heads.value_or(n_heads), kMost));
  // llama.cpp calls every Qwen2 text model of 80 layers a 70B model (src/models/qwen2.cpp).
  facts.has_70b_rule = architecture == "qwen2" && n_layers == 80;
  return facts;
}

// The mixture's type. Vision encoders, as llama-quantize counts: value matrices by their place in alphabetical order,
// and a model of 0 layers for the rest, in which every layer is among those that get more bits.
DType mixed_type(const Facts& facts, FileType type, const GgufTensor& tensor) {
  MixtureTensor description{tensor.name, dims_of(tensor), tensor.type};
  MixtureModel model = facts.model;
  if (facts.is_vision && is_value_matrix(tensor.name)) {
    const auto& names = facts.value_matrices;
    model.n_layers = static_cast<int>(names.size());
    description.layer =
        static_cast<int>(std::lower_bound(names.begin(), names.end(), tensor.name, comes_first) - names.begin());
  }
  const DType chosen = mixture_dtype(type, model, description);
  const bool is_coarse = chosen == DType::kQ3_K || chosen == DType::kQ4_K;
  return facts.has_70b_rule && is_coarse && is_value_matrix(tensor.name) ? DType::kQ5_K : chosen;
}

// Remembers which rules were of use.
class Rules {
 public:
  explicit Rules(const std::vector<TensorTypeRule>& rules) : rules_(rules), used_(rules.size()) {}
  std::optional<DType> find(const std::string& name) {
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (!std::regex_search(name, rules_[i].expression)) continue;
      used_[i] = true;
      return rules_[i].type;
    }
    return std::nullopt;
  }
  std::vector<std::string> unused() const {
    std::vector<std::string> patterns;
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (!used_[i]) patterns.push_back(rules_[i].pattern);
    }
    return patterns;
  }

 private:
  const std::vector<TensorTypeRule>& rules_;
  std::vector<bool> used_;
};

// The type that the tensor should have if its shape allows it; nullopt: what the mixture says.
std::optional<DType> wanted_type(const Facts& facts, const QuantizeRequest& request, Rules& rules,
                                 const GgufTensor& tensor) {
  const std::optional<DType> by_rule = rules.find(tensor.name);
  if (tensor.name == kEmbedding && request.embedding_type) return request.embedding_type;
  if (tensor.name == kOutput && request.output_type) return request.output_type;
  if (by_rule) return by_rule;
  if (request.pure) return file_type_base(request.type);
  if (tensor.name == kEmbedding && facts.model.tied_output && request.output_type) return request.output_type;
  return std::nullopt;
}

// The type that a mixture gives to rows that are whole blocks of everything: says whether a fallback was taken.
DType type_without_fallback(const Facts& facts, FileType type, const GgufTensor& tensor) {
  GgufTensor regular = tensor;
  regular.dims[0] = 256;
  return mixed_type(facts, type, regular);
}

Status add_importance(const ImportanceMatrix& matrix, PlannedTensor& planned) {
  const GgufTensor& tensor = *planned.source;
  planned.lacks_importance = true;
  const std::vector<float>* const values = matrix.find(tensor.name);
  if (values == nullptr) return {};
  const uint64_t want = tensor.dims[0] * tensor.dims[2] * tensor.dims[3];
  if (values->size() != want) {
    // Token ids are looked up in the embeddings, not multiplied: matrices count ids there, not columns.
    if (tensor.name == kEmbedding) return {};
    return make_error(ErrorCode::kMismatch,
                      "%s: want %d importance values for %s %s, the file has %d: it was made for another model",
                      matrix.path(), want, quoted(tensor.name), tensor.describe(), values->size());
  }
  planned.importance = *values;
  planned.lacks_importance = false;
  return {};
}

bool ignores_importance(DType type) {
  return type == DType::kQ8_0 || dtype_info(type).block_length == 1;
}

// Two bits without importance are garbage; the file type that is all of them insists (as llama-quantize does).
bool needs_importance(FileType type, const PlannedTensor& planned) {
  return type == FileType::kQ2_K_S && planned.type == DType::kQ2_K && planned.source->name != kEmbedding &&
         planned.source->name != kOutput;
}

Status check_conversion(const QuantizeRequest& request, const PlannedTensor& planned) {
  const GgufTensor& tensor = *planned.source;
  if (planned.is_copied()) return {};
  if (!is_weight_type(tensor.type)) {
    return make_error(ErrorCode::kUnsupported, "tensor %s is %s, a type that cannot be converted", quoted(tensor.name),
                      tensor.describe());
  }
  if (dtype_info(tensor.type).block_length > 1 && !request.allow_requantize) {
    return make_error(ErrorCode::kInvalidArgument,
                      "tensor %s is quantised already (%s), and would lose precision twice: start from an F16, BF16 or "
                      "F32 file, or insist with --allow-requantize",
                      quoted(tensor.name), dtype_name(tensor.type));
  }
  if (needs_importance(request.type, planned) && planned.importance.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "%s needs an importance matrix: %s",
                      file_type_name(static_cast<uint32_t>(request.type)),
                      request.importance == nullptr
                          ? "give one with --imatrix"
                          : (request.importance->path() + " has no entry for " + quoted(tensor.name)).c_str());
  }
  return {};
}

Result<PlannedTensor> plan_tensor(const Facts& facts, const QuantizeRequest& request, Rules& rules,
                                  const GgufTensor& tensor) {
  PlannedTensor planned{&tensor, tensor.type, false, {}, false};
  if (tensor.n_elements() == 0 || !is_quantized_tensor(tensor.name, dims_of(tensor))) return planned;
  const std::optional<DType> wanted = wanted_type(facts, request, rules, tensor);
  planned.type = wanted ? fallback_dtype(*wanted, tensor.row_length()) : mixed_type(facts, request.type, tensor);
  planned.is_fallback = planned.type != (wanted ? *wanted : type_without_fallback(facts, request.type, tensor));
  if (request.importance != nullptr && !planned.is_copied() && !ignores_importance(planned.type)) {
    GLIMPSE_TRY(add_importance(*request.importance, planned));
  }
  GLIMPSE_TRY(check_conversion(request, planned));
  return planned;
}

}  // namespace

Result<DType> parse_tensor_type(const std::string& name) {
  const std::optional<DType> type = dtype_from_name(name);
  if (type && can_quantize(*type)) return *type;
  std::string known;
  for (uint32_t id = 0; id < 64; ++id) {
    const DTypeInfo* const info = find_dtype(id);
    if (info != nullptr && can_quantize(info->type)) known += std::string(known.empty() ? "" : " ") + info->name;
  }
  const char* const what = type && is_weight_type(*type) ? "is read, but cannot be written" : "is no type of weights";
  return make_error(ErrorCode::kInvalidArgument, "%s %s; types that can be written: %s", quoted(name), what, known);
}

Result<TensorTypeRule> parse_tensor_type_rule(const std::string& text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) {
    return make_error(ErrorCode::kInvalidArgument, "%s: want EXPRESSION=TYPE, for example attn_v=q8_0", quoted(text));
  }
  TensorTypeRule rule;
  rule.pattern = text.substr(0, equals);
  GLIMPSE_ASSIGN(rule.type, parse_tensor_type(text.substr(equals + 1)));
  try {
    rule.expression.assign(rule.pattern, std::regex::ECMAScript | std::regex::icase);
  } catch (const std::regex_error& error) {
    return make_error(ErrorCode::kInvalidArgument, "%s is no regular expression: %s", quoted(rule.pattern),
                      error.what());
  }
  return rule;
}

Result<QuantizePlan> plan_quantization(const GgufFile& file, const QuantizeRequest& request) {
  if (!file_type_base(request.type)) {
    return make_error(ErrorCode::kUnsupported, "files of type %s cannot be written",
                      file_type_name(static_cast<uint32_t>(request.type)));
  }
  GLIMPSE_ASSIGN(const Facts facts, read_facts(file, request.importance != nullptr));
  Rules rules(request.rules);
  QuantizePlan plan;
  for (const GgufTensor& tensor : file.tensors()) {
    GLIMPSE_ASSIGN(const PlannedTensor planned, plan_tensor(facts, request, rules, tensor));
    plan.n_elements += tensor.n_elements();
    plan.bytes_before += tensor.n_bytes;
    plan.bytes_after += planned.n_bytes();
    plan.tensors.push_back(planned);
  }
  plan.unused_rules = rules.unused();
  return plan;
}

}  // namespace glimpse
