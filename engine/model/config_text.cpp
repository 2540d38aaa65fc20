// What the keys of a text model say.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/config_keys.h"

namespace glimpse {
namespace {

// What the name of an architecture stands for.
struct TextFamily {
  const char* architecture;
  bool qkv_bias, qk_norm;
  bool mrope, interleaved;  // positions of three axes
  bool experts = false;
  bool norm_topk_prob = false;  // released models; files may say otherwise
};
constexpr TextFamily kTextFamilies[] = {
    {"qwen2", true, false, false, false},
    {"qwen2vl", true, false, true, false},
    {"qwen3", false, true, false, false},
    {"qwen2moe", true, false, false, false, true, false},
    {"qwen3moe", false, true, false, false, true, true},
    {"qwen3vl", false, true, true, true},
    {"qwen3vlmoe", false, true, true, true, true, true},
    {"qwen25vl", true, false, true, false},  // Ollama
};

std::string family_names() {
  std::string names;
  for (const TextFamily& family : kTextFamilies) names += std::string(names.empty() ? "" : ", ") + family.architecture;
  return names;
}

Result<TextFamily> find_text_family(const GgufFile& file, const std::string& architecture) {
  for (const TextFamily& family : kTextFamilies) {
    if (architecture == family.architecture) return family;
  }
  const char* path = file.path().c_str();
  if (architecture == "clip") {
    return make_error(ErrorCode::kUnsupported,
                      "%s is a vision encoder (general.architecture 'clip'), not a text model: give it as mmproj, and "
                      "the language model's GGUF as model",
                      path);
  }
  if (architecture.starts_with("qwen")) {
    return make_error(ErrorCode::kUnsupported, "%s: %s models are not supported yet (supported: %s)", path,
                      architecture, family_names());
  }
  return make_error(ErrorCode::kUnsupported, "%s: unknown architecture '%s' (supported: %s)", path, architecture,
                    family_names());
}

// Sections of the rotary embedding: how many pairs use the time, height and width position.
Status read_sections(const GgufFile& file, const TextFamily& family, TextConfig& c) {
  const int64_t pairs = c.head_dim / 2;
  const std::string key = c.architecture + ".rope.dimension_sections";
  GLIMPSE_ASSIGN(std::vector<int64_t> sections, file.int_array(key));
  if (sections.empty()) {  // files of Ollama
    GLIMPSE_ASSIGN(sections, file.int_array(c.architecture + ".rope.mrope_section"));
  }
  const bool given = std::any_of(sections.begin(), sections.end(), [](int64_t n) { return n != 0; });
  c.mrope_section.interleaved = family.interleaved;
  int64_t(&count)[3] = c.mrope_section.count;
  if (!family.mrope) {
    count[0] = pairs;  // one-dimensional positions
    return {};
  }
  if (!given) {
    // Some third-party files lack the key. Released models share the pairs as 2 : 3 : 3, interleaved ones as 6 : 5 : 5.
    count[1] = count[2] = family.interleaved ? pairs * 5 / 16 : (pairs - pairs / 4) / 2;
    count[0] = pairs - count[1] - count[2];
    return {};
  }
  if (sections.size() < 3 || sections.size() > 4) {
    return make_error(ErrorCode::kCorrupt, "%s: %s has %d entries, want 3 or 4", file.path(), key, sections.size());
  }
  int64_t total = 0;
  for (size_t i = 0; i < sections.size(); ++i) {
    const bool past_the_head = i > 0 && family.interleaved && 3 * sections[i] > pairs + 2;
    if (sections[i] < 0 || sections[i] > pairs || (total += sections[i]) > pairs || past_the_head) {
      return make_error(ErrorCode::kCorrupt, "%s: %s does not fit the %d rotation pairs of a head", file.path(), key,
                        pairs);
    }
    if (i < 3) count[i] = sections[i];
  }
  return {};
}

// A size that every layer has: a number, or an array of the same number for each layer. nullopt: absent.
Result<std::optional<int64_t>> layer_size(const GgufFile& file, const std::string& key, uint64_t limit) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return std::optional<int64_t>();
  if (value->type != GgufType::kArray) {
    GLIMPSE_ASSIGN(const int64_t size, size_key(file, key, limit));
    return std::optional(size);
  }
  GLIMPSE_ASSIGN(const std::vector<int64_t> sizes, file.int_array(key));
  if (sizes.empty()) return std::optional<int64_t>();
  for (const int64_t size : sizes) {
    if (size < 1 || static_cast<uint64_t>(size) > limit) {
      return make_error(ErrorCode::kCorrupt, "%s: %s holds %d, want 1 to %d", file.path(), key, size, limit);
    }
    if (size != sizes[0]) {
      return make_error(ErrorCode::kUnsupported, "%s: %s differs between layers (%d and %d), which is not supported",
                        file.path(), key, sizes[0], size);
    }
  }
  return std::optional(sizes[0]);
}

Status read_heads(const GgufFile& file, TextConfig& c) {
  const std::string& a = c.architecture;
  const char* path = file.path().c_str();
  GLIMPSE_ASSIGN(const auto heads, layer_size(file, a + ".attention.head_count", 4096));
  GLIMPSE_ASSIGN(const auto kv_heads, layer_size(file, a + ".attention.head_count_kv", 4096));
  if (!heads) return file.require_uint(a + ".attention.head_count").error();
  c.num_attention_heads = *heads;
  c.num_key_value_heads = kv_heads.value_or(*heads);
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

Status read_rope_scaling(const GgufFile& file, TextConfig& c) {
  const std::string prefix = c.architecture + ".rope.";
  GLIMPSE_ASSIGN(const auto type, file.optional_string(prefix + "scaling.type"));
  // Before there was a type: linear, by a factor of either name.
  GLIMPSE_ASSIGN(const double old_factor, positive_float_or(file, prefix + "scale_linear", 1));
  RopeScaling& s = c.rope_scaling;
  GLIMPSE_ASSIGN(s.factor, positive_float_or(file, prefix + "scaling.factor", old_factor));
  if (s.factor == 1 || type == "none" || type == "default" || type == "mrope") return {};
  if (!type || type->empty() || type == "linear") {
    s.kind = RopeScaling::Kind::kLinear;
    return {};
  }
  if (type != "yarn") {
    return make_error(ErrorCode::kUnsupported, "%s: rotary scaling '%s' is not supported (supported: linear, yarn)",
                      file.path(), *type);
  }
  s.kind = RopeScaling::Kind::kYarn;
  const auto trained = static_cast<double>(c.max_position_embeddings);
  GLIMPSE_ASSIGN(s.original_context, positive_float_or(file, prefix + "scaling.original_context_length", trained));
  GLIMPSE_ASSIGN(s.magnitude, positive_float_or(file, prefix + "scaling.attn_factor", 1));
  GLIMPSE_ASSIGN(s.beta_fast, positive_float_or(file, prefix + "scaling.yarn_beta_fast", s.beta_fast));
  GLIMPSE_ASSIGN(s.beta_slow, positive_float_or(file, prefix + "scaling.yarn_beta_slow", s.beta_slow));
  return {};
}

Status read_experts(const GgufFile& file, const TextFamily& family, TextConfig& c) {
  const std::string& a = c.architecture;
  GLIMPSE_ASSIGN(c.num_experts, size_key(file, a + ".expert_count", kMaxExperts));
  GLIMPSE_ASSIGN(c.num_experts_per_tok, size_key(file, a + ".expert_used_count", static_cast<uint64_t>(c.num_experts)));
  GLIMPSE_ASSIGN(const auto normalize, file.optional_bool(a + ".expert_weights_norm"));
  c.norm_topk_prob = normalize.value_or(family.norm_topk_prob);
  GLIMPSE_ASSIGN(const GgufTensor* down, require_tensor(file, "blk.0.ffn_down_exps.weight"));
  c.moe_intermediate_size = static_cast<int64_t>(down->dims[0]);
  const GgufTensor* shared = file.find_tensor("blk.0.ffn_down_shexp.weight");
  if (shared != nullptr) c.shared_expert_intermediate_size = static_cast<int64_t>(shared->dims[0]);
  if (c.moe_intermediate_size > static_cast<int64_t>(kMaxWidth) ||
      c.shared_expert_intermediate_size > static_cast<int64_t>(kMaxWidth)) {
    return make_error(ErrorCode::kCorrupt, "%s: experts of %d and %d activations", file.path(), c.moe_intermediate_size,
                      c.shared_expert_intermediate_size);
  }
  return {};
}

constexpr const char* kPoolings[] = {"none", "mean", "cls", "last", "rank"};

Status read_pooling(const GgufFile& file, TextConfig& c) {
  const std::string& a = c.architecture;
  GLIMPSE_ASSIGN(const auto causal, file.optional_bool(a + ".attention.causal"));
  if (!causal.value_or(true)) {
    return make_error(ErrorCode::kUnsupported,
                      "%s: its rows see those behind them (%s.attention.causal is false): not supported", file.path(),
                      a);
  }
  GLIMPSE_ASSIGN(const auto type, file.optional_uint(a + ".pooling_type"));
  if (type.value_or(0) >= std::size(kPoolings)) {
    return make_error(ErrorCode::kUnsupported, "%s: %s.pooling_type is %d, known are 0 to %d", file.path(), a, *type,
                      std::size(kPoolings) - 1);
  }
  c.pooling = static_cast<Pooling>(type.value_or(0));
  if (c.pooling != Pooling::kRank) return {};
  const GgufTensor* head = file.find_tensor("cls.output.weight");
  if (head == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "%s: a reranker (%s.pooling_type) without a classifier (cls.output.weight) is not supported",
                      file.path(), a);
  }
  c.num_labels = head->n_dims < 2 ? 1 : static_cast<int64_t>(head->dims[1]);
  if (c.num_labels < 1 || c.num_labels > c.vocab_size) {
    return make_error(ErrorCode::kCorrupt, "%s: a classifier of %d labels", file.path(), c.num_labels);
  }
  const std::vector<std::string>* labels = file.string_array(a + ".classifier.output_labels");
  if (labels != nullptr && static_cast<int64_t>(labels->size()) == c.num_labels) c.labels = *labels;
  return {};
}

}  // namespace

const char* pooling_name(Pooling pooling) {
  return kPoolings[static_cast<size_t>(pooling)];
}

Result<TextConfig> read_text_config(const GgufFile& file) {
  TextConfig c;
  GLIMPSE_ASSIGN(c.architecture, file.require_string("general.architecture"));
  GLIMPSE_ASSIGN(const TextFamily family, find_text_family(file, c.architecture));
  c.qkv_bias = family.qkv_bias;
  c.qk_norm = family.qk_norm;
  c.name = general_name(file);
  const std::string& a = c.architecture;
  GLIMPSE_ASSIGN(c.hidden_size, size_key(file, a + ".embedding_length", kMaxWidth));
  GLIMPSE_ASSIGN(c.num_hidden_layers, size_key(file, a + ".block_count", 4096));
  GLIMPSE_ASSIGN(const auto deepstack, file.optional_uint(a + ".n_deepstack_layers"));
  // Text and vision in one file (Ollama): the encoder says how many.
  GLIMPSE_ASSIGN(const std::vector<int64_t> taps, file.int_array(a + ".vision.deepstack_visual_indexes"));
  c.num_deepstack_layers = static_cast<int64_t>(std::min<uint64_t>(deepstack.value_or(taps.size()), 4097));
  if (c.num_deepstack_layers > c.num_hidden_layers) {
    return make_error(ErrorCode::kCorrupt, "%s: %s.n_deepstack_layers is %d, of %d layers", file.path(), a,
                      c.num_deepstack_layers, c.num_hidden_layers);
  }
  GLIMPSE_ASSIGN(c.max_position_embeddings, size_key_or(file, a + ".context_length", 1u << 30, 32768));
  GLIMPSE_TRY(read_heads(file, c));
  GLIMPSE_TRY(read_sections(file, family, c));
  GLIMPSE_TRY(read_rope_scaling(file, c));
  GLIMPSE_ASSIGN(c.rope_theta, file.require_float(a + ".rope.freq_base"));
  if (!std::isfinite(c.rope_theta) || c.rope_theta < 1) {
    return make_error(ErrorCode::kCorrupt, "%s: %s.rope.freq_base is %g", file.path(), a, c.rope_theta);
  }
  c.rotation = make_rotation(c.head_dim, c.rope_theta, c.mrope_section, c.rope_scaling);
  GLIMPSE_ASSIGN(const double eps, positive_float_or(file, a + ".attention.layer_norm_rms_epsilon", 1e-6));
  c.rms_norm_eps = static_cast<float>(eps);

  GLIMPSE_ASSIGN(const GgufTensor* embedding, require_tensor(file, "token_embd.weight"));
  c.vocab_size = static_cast<int64_t>(embedding->dims[1]);
  if (family.experts) {
    GLIMPSE_TRY(read_experts(file, family, c));
  } else {
    GLIMPSE_ASSIGN(const GgufTensor* gate, require_tensor(file, "blk.0.ffn_gate.weight"));
    c.intermediate_size = static_cast<int64_t>(gate->dims[1]);
  }
  c.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  GLIMPSE_TRY(read_pooling(file, c));
  return c;
}

}  // namespace glimpse
