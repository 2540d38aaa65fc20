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
    add(plans, b + "attn_q.weight", {t.hidden_size, q}, 1.2 * per_input(t.hidden_size));
    add(plans, b + "attn_q.bias", {q}, 0.1);
    add(plans, b + "attn_k.weight", {t.hidden_size, kv}, 1.2 * per_input(t.hidden_size));
    add(plans, b + "attn_k.bias", {kv}, 0.1);
    add(plans, b + "attn_v.weight", {t.hidden_size, kv}, per_input(t.hidden_size));
    add(plans, b + "attn_v.bias", {kv}, 0.1);
    add(plans, b + "attn_output.weight", {q, t.hidden_size}, 2 * residual * per_input(q));
    add(plans, b + "ffn_norm.weight", {t.hidden_size}, 0.05, 1);
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
      add(plans, b + name + ".bias", {c}, 0.05);
    };
    linear("attn_q", c, c, 1.2);
    linear("attn_k", c, c, 1.2);
    linear("attn_v", c, c, 1);
    linear("attn_out", c, c, 2 * residual);
    norm("ln1");
    linear("ffn_up", c, v.intermediate_size, 1);
    linear("ffn_down", v.intermediate_size, c, 2 * residual);
    norm("ln2");
  }
  add(plans, "v.post_ln.weight", {c}, 0.05, 1);
  add(plans, "v.post_ln.bias", {c}, 0.05);
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

}  // namespace

Result<SynthModel> synth_preset(const std::string& name) {
  SynthModel model;
  if (name == "qwen2-vl-2b") return model;
  SynthText& t = model.text;
  t.name = name;
  if (name == "qwen2-vl-7b" || name == "qwen2-vl-72b") {
    const bool large = name == "qwen2-vl-72b";
    t.hidden_size = large ? 8192 : 3584;
    t.num_hidden_layers = large ? 80 : 28;
    t.num_attention_heads = large ? 64 : 28;
    t.num_key_value_heads = large ? 8 : 4;
    t.intermediate_size = large ? 29568 : 18944;
    t.vocab_size = 152064;
    t.tied = false;
    model.vision.projection_dim = t.hidden_size;
    return model;
  }
  if (name == "tiny") {
    t.hidden_size = 256;
    t.num_hidden_layers = 2;
    t.num_attention_heads = 4;
    t.num_key_value_heads = 2;
    t.head_dim = 64;
    t.intermediate_size = 512;
    t.vocab_size = 414;  // the placeholder vocabulary without padding: every answer is visible
    t.mrope_section[0] = 8;
    t.mrope_section[1] = t.mrope_section[2] = 12;
    model.vision = {160, 2, 2, 320, 14, 256};
    return model;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "unknown preset '%s'; known: qwen2-vl-2b, qwen2-vl-7b, qwen2-vl-72b, tiny", name);
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
  if (t.num_attention_heads % t.num_key_value_heads != 0) {
    return make_error(ErrorCode::kInvalidArgument, "%d attention heads are no multiple of %d key/value heads",
                      t.num_attention_heads, t.num_key_value_heads);
  }
  if (t.architecture == "qwen2vl" && t.mrope_section[0] + t.mrope_section[1] + t.mrope_section[2] != t.head_dim / 2) {
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
  if (t.architecture == "qwen2vl") {
    writer.add_int32_array(key("rope.dimension_sections"),
                           {static_cast<int32_t>(t.mrope_section[0]), static_cast<int32_t>(t.mrope_section[1]),
                            static_cast<int32_t>(t.mrope_section[2]), 0});
  }
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
  writer.add_string("clip.projector_type", "qwen2vl_merger");
  u32("clip.vision.projection_dim", v.projection_dim);
  u32("clip.vision.image_size", 560);
  u32("clip.vision.patch_size", v.patch_size);
  u32("clip.vision.embedding_length", v.embed_dim);
  u32("clip.vision.feed_forward_length", v.projection_dim);  // the converter's mistake; readers must not use it
  u32("clip.vision.block_count", v.depth);
  u32("clip.vision.attention.head_count", v.num_heads);
  writer.add_float32("clip.vision.attention.layer_norm_epsilon", v.layer_norm_eps);
  if (v.use_gelu) writer.add_bool("clip.use_gelu", true);
  writer.add_float32_array("clip.vision.image_mean", {0.48145466f, 0.4578275f, 0.40821073f});
  writer.add_float32_array("clip.vision.image_std", {0.26862954f, 0.26130258f, 0.27577711f});
  writer.add_uint32("general.file_type", static_cast<uint32_t>(options.type));
  writer.add_uint32("general.quantization_version", 2);

  Plans plans = vision_plan(v);
  choose_types(plans, options.type,
               {static_cast<int>(v.depth), static_cast<int>(v.num_heads), static_cast<int>(v.num_heads)});
  return write_model(std::move(plans), options, writer, path);
}

}  // namespace glimpse
