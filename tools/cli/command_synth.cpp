// glimpse synth: models to measure with, without a download.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>

#include "engine/base/cpu_features.h"
#include "engine/model/config.h"
#include "kernels/quant/mixture.h"
#include "tools/cli/commands.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/synth/placeholder_vocabulary.h"
#include "tools/synth/synth.h"

namespace glimpse::cli {
namespace {

struct SynthCommand {
  std::string preset = "qwen2-vl-2b", type = "Q4_K_M", mmproj_type = "F16", model_path, mmproj_path, vocab;
  std::string like, mmproj_like;
  uint64_t seed = 1;
  int n_threads = 0;
  bool force = false;
  // 0: as in the preset
  int64_t hidden_size = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab_size = 0, experts = 0,
          used = 0;
  int64_t vision_embed_dim = 0, vision_depth = 0, vision_heads = 0, vision_ffn = 0;
  bool untied = false;
};

Result<FileType> parse_type(const std::string& name) {
  const auto type = file_type_from_name(name);
  if (!type) return make_error(ErrorCode::kInvalidArgument, "unknown file type '%s' (try Q4_K_M, Q8_0, F16)", name);
  return *type;
}

Status take_type(const GgufFile& file, std::string& type) {
  GLIMPSE_ASSIGN(const std::optional<uint64_t> number, file.optional_uint("general.file_type"));
  const char* name = number && *number <= UINT32_MAX ? file_type_name(static_cast<uint32_t>(*number)) : nullptr;
  if (name == nullptr || !file_type_from_name(name)) {
    return make_error(ErrorCode::kUnsupported, "%s does not name its file type: give one with --type or --mmproj-type",
                      file.path());
  }
  type = name;
  return {};
}

// Said before the first file is written: gigabytes later would be late.
Status check_paths(const SynthCommand& c) {
  if (c.model_path == c.mmproj_path) {
    return make_error(ErrorCode::kInvalidArgument, "-m and --mmproj are both %s", c.model_path);
  }
  return check_free({c.model_path, c.mmproj_path}, c.force);
}

// The sizes, the type (unless --type gave one) and the tokenizer (unless --vocab did) of an existing text model.
Status take_text(const std::string& path, bool takes_type, SynthText& t, std::string& type) {
  GLIMPSE_ASSIGN(const GgufFile file, GgufFile::open(path));
  GLIMPSE_ASSIGN(const TextConfig config, read_text_config(file));
  t.name = config.name.empty() ? "copy" : config.name;
  t.architecture = config.architecture;
  t.hidden_size = config.hidden_size;
  t.num_hidden_layers = config.num_hidden_layers;
  t.num_attention_heads = config.num_attention_heads;
  t.num_key_value_heads = config.num_key_value_heads;
  t.head_dim = config.head_dim;
  t.intermediate_size = config.intermediate_size;
  t.vocab_size = config.vocab_size;
  t.context_length = config.max_position_embeddings;
  for (int i = 0; i < 3; ++i) t.mrope_section[i] = config.mrope_section.count[i];
  t.rope_theta = config.rope_theta;
  t.rms_norm_eps = config.rms_norm_eps;
  t.tied = config.tied_embeddings;
  t.num_experts = config.num_experts;
  t.num_experts_per_tok = config.num_experts_per_tok;
  t.moe_intermediate_size = config.moe_intermediate_size;
  t.shared_expert_intermediate_size = config.shared_expert_intermediate_size;
  if (config.num_experts > 0) t.intermediate_size = config.moe_intermediate_size;  // no layer has one; a key does
  t.num_deepstack_layers = config.num_deepstack_layers;
  if (takes_type) GLIMPSE_TRY(take_type(file, type));
  return {};
}

Status take_vision(const std::string& path, bool takes_type, SynthVision& v, std::string& type) {
  GLIMPSE_ASSIGN(const GgufFile file, GgufFile::open(path));
  GLIMPSE_ASSIGN(const VisionConfig config, read_vision_config(file));
  v.embed_dim = config.hidden_size;
  v.depth = config.num_hidden_layers;
  v.num_heads = config.num_heads;
  v.intermediate_size = config.intermediate_size;
  v.patch_size = config.patch.patch_size;
  v.projection_dim = config.projection_dim;
  v.layer_norm_eps = config.layer_norm_eps;
  v.use_gelu = config.use_gelu;
  v.tower = config.gated_ffn ? SynthTower::kQwen25 : config.position_side > 0 ? SynthTower::kQwen3 : SynthTower::kQwen2;
  if (config.window_cells > 0) v.window_size = config.window_cells * config.resize_factor();
  if (config.gated_ffn) {
    const auto full = std::find(config.full_attention.begin(), config.full_attention.end(), true);
    v.full_attention_every = full == config.full_attention.end() ? 0 : full - config.full_attention.begin() + 1;
  }
  v.position_side = config.position_side;
  v.deepstack_layers = config.deepstack_layers;
  if (takes_type) GLIMPSE_TRY(take_type(file, type));
  return {};
}

void override_size(int64_t given, int64_t& size) {
  if (given != 0) size = given;
}

Status run_synth(SynthCommand& c, const CLI::App& command) {
  if (c.model_path.empty() && c.mmproj_path.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "nothing to write: give -m FILE, --mmproj FILE or both");
  }
  GLIMPSE_ASSIGN(SynthModel model, synth_preset(c.preset));
  SynthText& t = model.text;
  if (!c.like.empty()) {
    GLIMPSE_TRY(take_text(c.like, command.count("--type") == 0, t, c.type));
    if (c.vocab.empty()) c.vocab = c.like;
  }
  if (!c.mmproj_like.empty()) {
    GLIMPSE_TRY(take_vision(c.mmproj_like, command.count("--mmproj-type") == 0, model.vision, c.mmproj_type));
  }
  override_size(c.hidden_size, t.hidden_size);
  override_size(c.layers, t.num_hidden_layers);
  override_size(c.heads, t.num_attention_heads);
  override_size(c.kv_heads, t.num_key_value_heads);
  if (c.experts != 0 || c.used != 0) {
    if (t.num_experts == 0) return make_error(ErrorCode::kInvalidArgument, "%s is a model without experts", t.name);
    override_size(c.experts, t.num_experts);
    override_size(c.used, t.num_experts_per_tok);
  }
  override_size(c.ffn, t.num_experts > 0 ? t.moe_intermediate_size : t.intermediate_size);
  if (c.vocab_size == 0 && command.count("--vocab") > 0) {
    GLIMPSE_ASSIGN(t.vocab_size, vocabulary_size(c.vocab));
  }
  override_size(c.vocab_size, t.vocab_size);
  if (c.head_dim != 0 && c.head_dim != t.head_dim) {  // the released proportions, 2 : 3 : 3, of Qwen3-VL 6 : 5 : 5
    t.head_dim = c.head_dim;
    t.mrope_section[1] = t.mrope_section[2] = c.head_dim / 2 * (t.architecture.starts_with("qwen3") ? 5 : 6) / 16;
    t.mrope_section[0] = c.head_dim / 2 - 2 * t.mrope_section[1];
  }
  if (c.untied) t.tied = false;
  override_size(c.vision_embed_dim, model.vision.embed_dim);
  override_size(c.vision_depth, model.vision.depth);
  override_size(c.vision_heads, model.vision.num_heads);
  override_size(c.vision_ffn, model.vision.intermediate_size);
  // In a small tower the taps are its first blocks, and no decoder takes more than it has layers.
  std::vector<int64_t>& taps = model.vision.deepstack_layers;
  t.num_deepstack_layers = std::min(t.num_deepstack_layers, std::min(t.num_hidden_layers, model.vision.depth));
  if (!taps.empty() &&
      (taps.back() >= model.vision.depth || static_cast<int64_t>(taps.size()) > t.num_deepstack_layers)) {
    taps.resize(static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(taps.size()), t.num_deepstack_layers)));
    std::iota(taps.begin(), taps.end(), 0);
  }
  // Of a pair: copied from a decoder or made for one. An encoder copied alone keeps its own.
  if (c.mmproj_like.empty() || !c.model_path.empty()) model.vision.projection_dim = t.hidden_size;

  GLIMPSE_TRY(check_paths(c));
  GLIMPSE_ASSIGN(const FileType text_type, parse_type(c.type));
  GLIMPSE_ASSIGN(const FileType vision_type, parse_type(c.mmproj_type));
  catch_interrupts();
  ProgressLine line(false);
  SynthOptions options;
  options.seed = c.seed;
  options.vocab_path = c.vocab;
  options.overwrite = c.force;
  options.n_threads = c.n_threads > 0 ? c.n_threads : available_cpus();
  const auto show = [&](const std::string& path) {
    options.progress = [&line, path](double fraction) {
      line.show(path, fraction);
      return !interrupted();
    };
  };
  if (!c.model_path.empty()) {
    show(c.model_path);
    options.type = text_type;
    GLIMPSE_TRY(synth_text(t, options, c.model_path));
  }
  if (!c.mmproj_path.empty()) {
    show(c.mmproj_path);
    options.type = vision_type;
    GLIMPSE_TRY(synth_vision(model.vision, options, c.mmproj_path));
  }
  return {};
}

}  // namespace

void add_synth(CLI::App& app, int* status) {
  auto c = std::make_shared<SynthCommand>();
  CLI::App* command = app.add_subcommand("synth", "write a model with real shapes and random weights, to measure with");
  command->add_option("-m,--model", c->model_path, "text model to write");
  command->add_option("--mmproj", c->mmproj_path, "vision encoder to write");
  command->add_option("--preset", c->preset, synth_preset_names())->capture_default_str();
  command->add_option("--like", c->like,
                      "GGUF whose sizes, type and tokenizer the text model gets, instead of the preset's");
  command->add_option("--mmproj-like", c->mmproj_like, "GGUF whose sizes and type the vision encoder gets");
  command->add_option("--type", c->type, "file type of the text model: Q4_K_M, Q4_0, Q8_0, F16, ...")
      ->capture_default_str();
  command->add_option("--mmproj-type", c->mmproj_type, "file type of the vision encoder")->capture_default_str();
  command->add_option("--vocab", c->vocab,
                      "GGUF to copy the tokenizer from, and the number of tokens; default: a placeholder");
  command->add_option("--seed", c->seed, "seed of the weights")->capture_default_str();
  command->add_option("-t,--threads", c->n_threads, "threads; 0: one per available CPU")->capture_default_str();
  const auto add_sizes = [&](std::initializer_list<std::pair<const char*, int64_t*>> sizes) {
    for (const auto& [name, value] : sizes) command->add_option(name, *value, "overrides the preset");
  };
  add_sizes({{"--hidden-size", &c->hidden_size},
             {"--layers", &c->layers},
             {"--heads", &c->heads},
             {"--kv-heads", &c->kv_heads},
             {"--head-dim", &c->head_dim},
             {"--ffn", &c->ffn}});
  command->add_option("--experts", c->experts, "overrides the preset, of a model with experts");
  command->add_option("--experts-used", c->used, "experts of a token: overrides the preset");
  command->add_option("--vocab-size", c->vocab_size, "overrides the preset, and that of --vocab");
  add_sizes({{"--vision-embed-dim", &c->vision_embed_dim},
             {"--vision-depth", &c->vision_depth},
             {"--vision-heads", &c->vision_heads},
             {"--vision-ffn", &c->vision_ffn}});
  command->add_flag("--untied", c->untied, "give the output head a matrix of its own");
  command->add_flag("--force", c->force, "overwrite existing files");
  on_run(*command, status, [c, command] { return run_synth(*c, *command); });
}

}  // namespace glimpse::cli
