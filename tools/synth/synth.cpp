#include "tools/synth/synth.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>

#include "engine/base/thread_team.h"
#include "loaders/gguf/gguf_writer.h"
#include "tools/synth/placeholder_vocabulary.h"
#include "tools/synth/random_weights.h"

namespace glimpse {
namespace {

// One tensor to write. dims as in GGUF, fastest first.
struct Plan {
  std::string name;
  std::vector<uint64_t> dims;
  double deviation = 0;
  double mean = 0;
  DType type = DType::kF32;
};

using Plans = std::vector<Plan>;

void add(Plans& plans, const std::string& name, std::vector<int64_t> dims, double deviation, double mean = 0) {
  plans.push_back({name, std::vector<uint64_t>(dims.begin(), dims.end()), deviation, mean});
}

double per_input(int64_t n) {
  return 1.0 / std::sqrt(static_cast<double>(n));
}

bool is_qwen3(const SynthText& t) {
  return t.architecture.starts_with("qwen3");
}
bool has_mrope(const SynthText& t) {
  return t.architecture.find("vl") != std::string::npos;
}

void plan_experts(Plans& plans, const std::string& b, const SynthText& t, double residual) {
  const int64_t h = t.hidden_size, f = t.moe_intermediate_size, n = t.num_experts;
  const int64_t s = t.shared_expert_intermediate_size;
  // The weights of the chosen ones add up to about 1, their sum is smaller than one of them.
  const double gain = 2 * residual * std::sqrt(static_cast<double>(t.num_experts_per_tok));
  add(plans, b + "ffn_gate_inp.weight", {h, n}, 2 * per_input(h));
  add(plans, b + "ffn_gate_exps.weight", {h, f, n}, per_input(h));
  add(plans, b + "ffn_up_exps.weight", {h, f, n}, per_input(h));
  add(plans, b + "ffn_down_exps.weight", {f, h, n}, gain * per_input(f));
  if (s == 0) return;
  add(plans, b + "ffn_gate_inp_shexp.weight", {h}, per_input(h));
  add(plans, b + "ffn_gate_shexp.weight", {h, s}, per_input(h));
  add(plans, b + "ffn_up_shexp.weight", {h, s}, per_input(h));
  add(plans, b + "ffn_down_shexp.weight", {s, h}, 2 * residual * per_input(s));
}

// Standard deviations: a matrix keeps the variance of its normalised input; the two matrices of a layer that feed the
// residual stream are smaller by sqrt(2 * layers), so that the stream stays near 1 whatever the depth.
Plans text_plan(const SynthText& t) {
  Plans plans;
  const int64_t q = t.num_attention_heads * t.head_dim, kv = t.num_key_value_heads * t.head_dim;
  const double residual = per_input(2 * t.num_hidden_layers);
  add(plans, "token_embd.weight", {t.hidden_size, t.vocab_size}, 2.0 * per_input(t.hidden_size));
  for (int64_t i = 0; i < t.num_hidden_layers; ++i) {
    const std::string b = "blk." + std::to_string(i) + ".";
    add(plans, b + "attn_norm.weight", {t.hidden_size}, 0.05, 1);
    const auto projection = [&](const char* name, int64_t rows, double gain) {
      add(plans, b + name + ".weight", {t.hidden_size, rows}, gain * per_input(t.hidden_size));
      if (!is_qwen3(t)) add(plans, b + name + ".bias", {rows}, 0.1);
    };
    projection("attn_q", q, 1.2);
    projection("attn_k", kv, 1.2);
    projection("attn_v", kv, 1);
    if (is_qwen3(t)) {
      add(plans, b + "attn_q_norm.weight", {t.head_dim}, 0.05, 1.2);
      add(plans, b + "attn_k_norm.weight", {t.head_dim}, 0.05, 1.2);
    }
    add(plans, b + "attn_output.weight", {q, t.hidden_size}, 2 * residual * per_input(q));
    add(plans, b + "ffn_norm.weight", {t.hidden_size}, 0.05, 1);
    if (t.num_experts > 0) {
      plan_experts(plans, b, t, residual);
      continue;
    }
    add(plans, b + "ffn_gate.weight", {t.hidden_size, t.intermediate_size}, per_input(t.hidden_size));
    add(plans, b + "ffn_up.weight", {t.hidden_size, t.intermediate_size}, per_input(t.hidden_size));
    add(plans, b + "ffn_down.weight", {t.intermediate_size, t.hidden_size},
        2 * residual * per_input(t.intermediate_size));
  }
  add(plans, "output_norm.weight", {t.hidden_size}, 0.05, 1);
  if (!t.tied) add(plans, "output.weight", {t.hidden_size, t.vocab_size}, 2.0 * per_input(t.hidden_size));
  return plans;
}

Plans vision_plan(const SynthVision& v) {
  Plans plans;
  const int64_t c = v.embed_dim, p = v.patch_size, merged = 4 * c;
  const double residual = per_input(2 * v.depth);
  const bool gated = v.tower == SynthTower::kQwen25, three = v.tower == SynthTower::kQwen3;
  for (const char* suffix : {"", ".1"}) {
    add(plans, std::string("v.patch_embd.weight") + suffix, {p, p, 3, c}, per_input(6 * p * p));
  }
  for (int64_t i = 0; i < v.depth; ++i) {
    const std::string b = "v.blk." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t in, int64_t out, double gain) {
      add(plans, b + name + ".weight", {in, out}, gain * per_input(in));
      add(plans, b + name + ".bias", {out}, 0.02);
    };
    const auto norm = [&](const std::string& name) {
      add(plans, b + name + ".weight", {c}, 0.05, 1);
      if (!gated) add(plans, b + name + ".bias", {c}, 0.05);
    };
    if (three) {
      linear("attn_qkv", c, 3 * c, 1.1);
    } else {
      linear("attn_q", c, c, 1.2);
      linear("attn_k", c, c, 1.2);
      linear("attn_v", c, c, 1);
    }
    linear("attn_out", c, c, 2 * residual);
    norm("ln1");
    if (gated) linear("ffn_gate", c, v.intermediate_size, 1);
    linear("ffn_up", c, v.intermediate_size, 1);
    linear("ffn_down", v.intermediate_size, c, 2 * residual);
    norm("ln2");
  }
  if (three) {
    add(plans, "v.patch_embd.bias", {c}, 0.02);
    add(plans, "v.position_embd.weight", {c, v.position_side * v.position_side}, 0.3);
  }
  for (const int64_t layer : v.deepstack_layers) {
    const std::string b = "v.deepstack." + std::to_string(layer) + ".";
    add(plans, b + "norm.weight", {merged}, 0.05, 1);
    add(plans, b + "norm.bias", {merged}, 0.05);
    add(plans, b + "fc1.weight", {merged, merged}, per_input(merged));
    add(plans, b + "fc1.bias", {merged}, 0.02);
    add(plans, b + "fc2.weight", {merged, v.projection_dim}, 0.3 * per_input(merged));
    add(plans, b + "fc2.bias", {v.projection_dim}, 0.02);
  }
  add(plans, "v.post_ln.weight", {c}, 0.05, 1);
  if (!gated) add(plans, "v.post_ln.bias", {c}, 0.05);
  add(plans, "mm.0.weight", {merged, merged}, per_input(merged));
  add(plans, "mm.0.bias", {merged}, 0.02);
  add(plans, "mm.2.weight", {merged, v.projection_dim}, per_input(merged));
  add(plans, "mm.2.bias", {v.projection_dim}, 0.02);
  return plans;
}

bool is_converted_type(FileType type) {
  return type == FileType::kF32 || type == FileType::kF16 || type == FileType::kBF16 || type == FileType::kQ8_0;
}

// Types as llama.cpp would have them: F16 as converted, then the mixture's rule for quantised files.
void choose_types(Plans& plans, FileType type, const MixtureModel& model) {
  for (Plan& plan : plans) {
    if (is_converted_type(type)) {
      plan.type = converted_dtype(type, plan.name, plan.dims);
    } else {
      const DType source = converted_dtype(FileType::kF16, plan.name, plan.dims);
      plan.type = mixture_dtype(type, model, {plan.name, plan.dims, source});
    }
  }
}

uint64_t name_hash(const std::string& name) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// One source per type and scale: most tensors share a few.
class WeightSources {
 public:
  const RandomWeights& get(const Plan& plan) {
    auto& source = sources_[{plan.type, plan.deviation, plan.mean}];
    if (!source) source = std::make_unique<RandomWeights>(plan.type, plan.deviation, plan.mean);
    return *source;
  }

 private:
  std::map<std::tuple<DType, double, double>, std::unique_ptr<RandomWeights>> sources_;
};

Status write_tensors(const Plans& plans, const SynthOptions& options, GgufWriter& writer) {
  constexpr uint64_t kSliceBytes = uint64_t{8} << 20;
  ThreadTeam team(options.n_threads);
  WeightSources sources;
  std::vector<std::byte> slice;
  uint64_t total = 0, done = 0;
  const auto n_rows = [](const Plan& plan) {
    uint64_t rows = 1;
    for (size_t i = 1; i < plan.dims.size(); ++i) rows *= plan.dims[i];
    return rows;
  };
  for (const Plan& plan : plans) total += dtype_row_bytes(plan.type, plan.dims[0]) * n_rows(plan);
  for (const Plan& plan : plans) {
    const RandomWeights& weights = sources.get(plan);
    const uint64_t row_bytes = dtype_row_bytes(plan.type, plan.dims[0]);
    const uint64_t rows = n_rows(plan);
    const uint64_t slice_rows = std::clamp<uint64_t>(kSliceBytes / row_bytes, 1, rows);
    for (uint64_t first = 0; first < rows; first += slice_rows) {
      const uint64_t count = std::min(slice_rows, rows - first);
      slice.resize(count * row_bytes);
      const int64_t grain = std::max<int64_t>(1, static_cast<int64_t>(kSliceBytes / 64 / row_bytes));
      team.for_ranges(static_cast<int64_t>(count), Grain{.most = grain}, [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          // A row's seed depends on the tensor and the row alone: the file is the same for any thread count.
          const uint64_t row = first + static_cast<uint64_t>(i);
          SplitMix64 mix{options.seed ^ name_hash(plan.name) ^ (row * 0xd1342543de82ef95u)};
          weights.fill(mix(), static_cast<int64_t>(plan.dims[0]), slice.data() + static_cast<uint64_t>(i) * row_bytes);
        }
      });
      GLIMPSE_TRY(writer.append(slice));
      done += slice.size();
      if (options.progress && !options.progress(static_cast<double>(done) / static_cast<double>(total))) {
        return make_error(ErrorCode::kCancelled, "cancelled");
      }
    }
  }
  return {};
}

Status write_model(Plans plans, const SynthOptions& options, GgufWriter& writer, const std::string& path) {
  for (const Plan& plan : plans) writer.declare_tensor(plan.name, plan.type, plan.dims);
  GLIMPSE_TRY(writer.begin(
      path, options.overwrite ? AtomicFileWriter::Existing::kReplace : AtomicFileWriter::Existing::kRefuse));
  GLIMPSE_TRY(write_tensors(plans, options, writer));
  return writer.commit();
}

Status check_type(FileType type) {
  if (file_type_base(type)) return {};
  return make_error(ErrorCode::kUnsupported, "files of type %s cannot be written",
                    file_type_name(static_cast<uint32_t>(type)));
}

Status check_positive(std::initializer_list<std::pair<const char*, int64_t>> sizes) {
  for (const auto& [name, value] : sizes) {
    if (value < 1 || value > (int64_t{1} << 24)) {
      return make_error(ErrorCode::kInvalidArgument, "%s is %d: want 1 to 16777216", name, value);
    }
  }
  return {};
}

// Released sizes. vision: the tower of 1280, or of Qwen3-VL the one of `tower_width`.
struct Preset {
  const char* name;
  const char* architecture;
  SynthTower tower;
  int64_t hidden, layers, heads, kv_heads, ffn, vocab, context;
  bool tied;
  int64_t tower_width;
  int64_t experts = 0, used = 0, expert_ffn = 0;
};
constexpr Preset kPresets[] = {
    {"qwen2-vl-2b", "qwen2vl", SynthTower::kQwen2, 1536, 28, 12, 2, 8960, 151936, 32768, true, 1280},
    {"qwen2-vl-7b", "qwen2vl", SynthTower::kQwen2, 3584, 28, 28, 4, 18944, 152064, 32768, false, 1280},
    {"qwen2-vl-72b", "qwen2vl", SynthTower::kQwen2, 8192, 80, 64, 8, 29568, 152064, 32768, false, 1280},
    {"qwen2.5-vl-3b", "qwen2vl", SynthTower::kQwen25, 2048, 36, 16, 2, 11008, 151936, 128000, true, 1280},
    {"qwen2.5-vl-7b", "qwen2vl", SynthTower::kQwen25, 3584, 28, 28, 4, 18944, 152064, 128000, false, 1280},
    {"qwen3-vl-2b", "qwen3vl", SynthTower::kQwen3, 2048, 28, 16, 8, 6144, 151936, 262144, true, 1024},
    {"qwen3-vl-4b", "qwen3vl", SynthTower::kQwen3, 2560, 36, 32, 8, 9728, 151936, 262144, true, 1024},
    {"qwen3-vl-8b", "qwen3vl", SynthTower::kQwen3, 4096, 36, 32, 8, 12288, 151936, 262144, false, 1152},
    {"qwen3-vl-30b-a3b", "qwen3vlmoe", SynthTower::kQwen3, 2048, 48, 32, 4, 6144, 151936, 262144, false, 1152, 128, 8,
     768},
};

SynthModel model_of(const Preset& p) {
  SynthModel model;
  SynthText& t = model.text;
  SynthVision& v = model.vision;
  t.name = p.name;
  t.architecture = p.architecture;
  t.hidden_size = v.projection_dim = p.hidden;
  t.num_hidden_layers = p.layers;
  t.num_attention_heads = p.heads;
  t.num_key_value_heads = p.kv_heads;
  t.intermediate_size = p.ffn;
  t.vocab_size = p.vocab;
  t.context_length = p.context;
  t.tied = p.tied;
  t.num_experts = p.experts;
  t.num_experts_per_tok = p.used;
  t.moe_intermediate_size = p.expert_ffn;
  v.tower = p.tower;
  if (p.tower == SynthTower::kQwen25) v.intermediate_size = 3420;
  if (p.tower != SynthTower::kQwen3) return model;
  t.rope_theta = 5e6;
  t.num_deepstack_layers = 3;
  t.mrope_section[0] = 24;
  t.mrope_section[1] = t.mrope_section[2] = 20;
  const bool large = p.tower_width == 1152;
  v.embed_dim = p.tower_width;
  v.depth = large ? 27 : 24;
  v.intermediate_size = large ? 4304 : 4096;
  v.patch_size = 16;
  v.use_gelu = true;
  v.deepstack_layers = large ? std::vector<int64_t>{8, 16, 24} : std::vector<int64_t>{5, 11, 17};
  return model;
}

}  // namespace

std::string synth_preset_names() {
  std::string names;
  for (const Preset& preset : kPresets) names += std::string(preset.name) + ", ";
  return names + "tiny";
}

Result<SynthModel> synth_preset(const std::string& name) {
  for (const Preset& preset : kPresets) {
    if (name == preset.name) return model_of(preset);
  }
  if (name == "tiny") {
    SynthModel model;
    SynthText& t = model.text;
    t.name = name;
    t.hidden_size = 256;
    t.num_hidden_layers = 2;
    t.num_attention_heads = 4;
    t.num_key_value_heads = 2;
    t.head_dim = 64;
    t.intermediate_size = 512;
    t.vocab_size = 414;  // the placeholder vocabulary without padding: every answer is visible
    t.mrope_section[0] = 8;
    t.mrope_section[1] = t.mrope_section[2] = 12;
    SynthVision& v = model.vision;
    v.embed_dim = 160;
    v.depth = v.num_heads = 2;
    v.intermediate_size = 320;
    v.projection_dim = 256;
    return model;
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown preset '%s'; known: %s", name, synth_preset_names());
}

Status synth_text(const SynthText& t, const SynthOptions& options, const std::string& path) {
  GLIMPSE_TRY(check_type(options.type));
  GLIMPSE_TRY(check_positive({{"hidden_size", t.hidden_size},
                              {"num_hidden_layers", t.num_hidden_layers},
                              {"num_attention_heads", t.num_attention_heads},
                              {"num_key_value_heads", t.num_key_value_heads},
                              {"head_dim", t.head_dim},
                              {"intermediate_size", t.intermediate_size},
                              {"vocab_size", t.vocab_size}}));
  if (t.num_experts != 0) {
    if (t.num_experts_per_tok < 1 || t.num_experts_per_tok > t.num_experts || !t.architecture.ends_with("moe")) {
      return make_error(ErrorCode::kInvalidArgument, "%d of %d experts in a %s model", t.num_experts_per_tok,
                        t.num_experts, t.architecture);
    }
    GLIMPSE_TRY(check_positive({{"num_experts", t.num_experts}, {"moe_intermediate_size", t.moe_intermediate_size}}));
  }
  if (t.num_attention_heads % t.num_key_value_heads != 0) {
    return make_error(ErrorCode::kInvalidArgument, "%d attention heads are no multiple of %d key/value heads",
                      t.num_attention_heads, t.num_key_value_heads);
  }
  if (has_mrope(t) && t.mrope_section[0] + t.mrope_section[1] + t.mrope_section[2] != t.head_dim / 2) {
    return make_error(ErrorCode::kInvalidArgument, "the M-RoPE sections add up to %d, half the head is %d",
                      t.mrope_section[0] + t.mrope_section[1] + t.mrope_section[2], t.head_dim / 2);
  }
  GgufWriter writer;
  const auto key = [&t](const char* name) { return t.architecture + "." + name; };
  const auto u32 = [&](const char* name, int64_t value) { writer.add_uint32(key(name), static_cast<uint32_t>(value)); };
  writer.add_string("general.architecture", t.architecture);
  writer.add_string("general.type", "model");
  writer.add_string("general.name", t.name.starts_with("synthetic ") ? t.name : "synthetic " + t.name);
  u32("block_count", t.num_hidden_layers);
  u32("context_length", t.context_length);
  u32("embedding_length", t.hidden_size);
  u32("feed_forward_length", t.intermediate_size);
  u32("attention.head_count", t.num_attention_heads);
  u32("attention.head_count_kv", t.num_key_value_heads);
  if (t.head_dim * t.num_attention_heads != t.hidden_size) {
    u32("attention.key_length", t.head_dim);
    u32("attention.value_length", t.head_dim);
  }
  writer.add_float32(key("rope.freq_base"), static_cast<float>(t.rope_theta));
  writer.add_float32(key("attention.layer_norm_rms_epsilon"), t.rms_norm_eps);
  if (has_mrope(t)) {
    writer.add_int32_array(key("rope.dimension_sections"),
                           {static_cast<int32_t>(t.mrope_section[0]), static_cast<int32_t>(t.mrope_section[1]),
                            static_cast<int32_t>(t.mrope_section[2]), 0});
  }
  if (t.num_experts > 0) {
    u32("expert_count", t.num_experts);
    u32("expert_used_count", t.num_experts_per_tok);
    u32("expert_feed_forward_length", t.moe_intermediate_size);
    if (t.shared_expert_intermediate_size > 0) {
      u32("expert_shared_feed_forward_length", t.shared_expert_intermediate_size);
    }
  }
  if (t.num_deepstack_layers > 0) u32("n_deepstack_layers", t.num_deepstack_layers);
  writer.add_uint32("general.file_type", static_cast<uint32_t>(options.type));
  writer.add_uint32("general.quantization_version", 2);
  GLIMPSE_TRY(add_vocabulary(writer, t.vocab_size, options.vocab_path));

  Plans plans = text_plan(t);
  choose_types(plans, options.type,
               {static_cast<int>(t.num_hidden_layers), static_cast<int>(t.num_attention_heads),
                static_cast<int>(t.num_key_value_heads), t.tied, false});
  return write_model(std::move(plans), options, writer, path);
}

Status synth_vision(const SynthVision& v, const SynthOptions& options, const std::string& path) {
  GLIMPSE_TRY(check_type(options.type));
  GLIMPSE_TRY(check_positive({{"vision embed_dim", v.embed_dim},
                              {"vision depth", v.depth},
                              {"vision num_heads", v.num_heads},
                              {"vision intermediate_size", v.intermediate_size},
                              {"patch_size", v.patch_size},
                              {"projection_dim", v.projection_dim}}));
  if (v.embed_dim % (4 * v.num_heads) != 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "vision embed_dim %d over %d heads: the head size must be a multiple of 4", v.embed_dim,
                      v.num_heads);
  }
  GgufWriter writer;
  const auto u32 = [&](const char* key, int64_t value) { writer.add_uint32(key, static_cast<uint32_t>(value)); };
  writer.add_string("general.architecture", "clip");
  writer.add_string("general.type", "mmproj");
  writer.add_string("general.name", "synthetic vision encoder");
  writer.add_bool("clip.has_vision_encoder", true);
  const bool gated = v.tower == SynthTower::kQwen25, three = v.tower == SynthTower::kQwen3;
  writer.add_string("clip.projector_type", gated ? "qwen2.5vl_merger" : three ? "qwen3vl_merger" : "qwen2vl_merger");
  u32("clip.vision.projection_dim", v.projection_dim);
  u32("clip.vision.image_size", three ? v.position_side * v.patch_size : 560);
  u32("clip.vision.patch_size", v.patch_size);
  u32("clip.vision.embedding_length", v.embed_dim);
  // Of Qwen2-VL the converter's mistake; readers must not use it.
  u32("clip.vision.feed_forward_length", gated || three ? v.intermediate_size : v.projection_dim);
  u32("clip.vision.block_count", v.depth);
  u32("clip.vision.attention.head_count", v.num_heads);
  writer.add_float32("clip.vision.attention.layer_norm_epsilon", v.layer_norm_eps);
  if (v.use_gelu) writer.add_bool("clip.use_gelu", true);
  if (gated) {
    writer.add_bool("clip.use_silu", true);
    u32("clip.vision.n_wa_pattern", v.full_attention_every);
    if (v.window_size != 112) u32("clip.vision.window_size", v.window_size);
  }
  if (three) u32("clip.vision.spatial_merge_size", 2);
  writer.add_float32_array("clip.vision.image_mean", three ? std::vector<float>(3, 0.5f)
                                                           : std::vector<float>{0.48145466f, 0.4578275f, 0.40821073f});
  writer.add_float32_array("clip.vision.image_std", three ? std::vector<float>(3, 0.5f)
                                                          : std::vector<float>{0.26862954f, 0.26130258f, 0.27577711f});
  writer.add_uint32("general.file_type", static_cast<uint32_t>(options.type));
  writer.add_uint32("general.quantization_version", 2);

  Plans plans = vision_plan(v);
  choose_types(plans, options.type,
               {static_cast<int>(v.depth), static_cast<int>(v.num_heads), static_cast<int>(v.num_heads)});
  return write_model(std::move(plans), options, writer, path);
}

}  // namespace glimpse
