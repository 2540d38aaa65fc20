// glimpse perplexity: perplexity of a text, and how far this engine's predictions are from a reference's.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/model/model.h"
#include "engine/model/vision_encoder.h"
#include "tools/cli/commands.h"
#include "tools/cli/device_choice.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/kv_type.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/cli/vision_precision.h"
#include "tools/cli/warnings.h"
#include "tools/eval/kl_base.h"
#include "tools/eval/kl_statistics.h"
#include "tools/eval/pictures.h"
#include "tools/eval/prompts.h"
#include "tools/eval/scorer.h"

namespace glimpse::cli {
namespace {

using eval::KlBase;
using eval::KlBaseWriter;
using eval::Sequence;

struct PerplexityOptions {
  std::string model, mmproj, text_file, prompts_file, kl_base, kv_type, precision = "stored", vision_precision = "auto";
  std::vector<std::string> f32_weights;
  DeviceChoice where;
  bool save_base = false, kl_divergence = false, exact = false, reference = false, json = false, force = false;
  int64_t n_ctx = 512, n_chunks = 0, image_min_tokens = 0, image_max_tokens = 0;
  int n_threads = 0;

  bool f32() const { return precision == "f32"; }
};

// What is scored, with the pictures it needs.
struct Work {
  std::vector<Sequence> sequences;
  std::vector<int64_t> picture_positions;                                 // one per sequence, or empty
  std::vector<std::shared_ptr<const ImageEmbedding>> picture_embeddings;  // likewise
};

Result<std::string> read_text(const std::string& path) {
  GLIMPSE_ASSIGN(const std::vector<std::byte> bytes, read_file(path, Tokenizer::kMaxTextBytes));
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.empty() && text.back() == '\n') text.pop_back();  // as llama.cpp's -f
  return text;
}

// Pictures of prompts, each encoded once.
class PictureReader {
 public:
  PictureReader(std::shared_ptr<const Model> model, Ops& ops, const PerplexityOptions& o)
      : model_(std::move(model)), ops_(ops), options_(o) {}

  struct Picture {
    std::shared_ptr<const ImageEmbedding> embedding;
    std::string digest;
  };
  Result<Picture> read(const std::string& path, const ProgressSink& progress) {
    if (const auto found = known_.find(path); found != known_.end()) return found->second;
    if (!model_->has_vision()) {
      return make_error(ErrorCode::kInvalidArgument, "pictures need the vision encoder: give its file with --mmproj");
    }
    GLIMPSE_ASSIGN(const eval::Picture read,
                   eval::read_picture(path, model_->vision(), {options_.image_min_tokens, options_.image_max_tokens}));
    const Patches& patches = read.patches;
    if (encoder_ == nullptr || patches.grid.n_patches() > max_patches_) {
      max_patches_ = patches.grid.n_patches();
      GLIMPSE_ASSIGN(encoder_, VisionEncoder::create(model_, ops_, max_patches_));
    }
    GLIMPSE_ASSIGN(ImageEmbedding embedding, encoder_->encode(patches, {}, progress));
    Picture picture{std::make_shared<ImageEmbedding>(std::move(embedding)), read.digest};
    known_[path] = picture;
    return picture;
  }

 private:
  const std::shared_ptr<const Model> model_;
  Ops& ops_;
  const PerplexityOptions& options_;
  std::map<std::string, Picture> known_;
  std::unique_ptr<VisionEncoder> encoder_;
  int64_t max_patches_ = 0;
};

Result<Work> work_of_prompts(const std::shared_ptr<const Model>& model, Ops& ops, const PerplexityOptions& o,
                             const ProgressSink& progress) {
  GLIMPSE_ASSIGN(const std::string text, read_text(o.prompts_file));
  const std::string folder = std::filesystem::path(o.prompts_file).parent_path().string();
  auto lines = eval::parse_prompt_lines(text, folder);
  if (!lines.ok()) return with_context(lines.error(), o.prompts_file);
  PictureReader pictures(model, ops, o);
  Work work;
  for (const eval::PromptLine& line : lines.value()) {
    PictureReader::Picture picture;
    if (!line.image_path.empty()) {
      GLIMPSE_ASSIGN(picture, pictures.read(line.image_path, progress));
    }
    GLIMPSE_ASSIGN(eval::PromptSequence prompt, make_prompt_sequence(*model, line, picture.embedding, picture.digest));
    work.sequences.push_back(std::move(prompt.sequence));
    work.picture_positions.push_back(prompt.picture_position);
    work.picture_embeddings.push_back(std::move(prompt.embedding));
  }
  return work;
}

// A base from elsewhere and the sequences at hand must be about the same tokens and pictures.
Status check_same(const KlBase& base, const Work& work, const std::string& path) {
  if (base.sequences().size() != work.sequences.size()) {
    return make_error(ErrorCode::kMismatch, "%s holds %d sequences, the prompts are %d", path, base.sequences().size(),
                      work.sequences.size());
  }
  for (size_t i = 0; i < work.sequences.size(); ++i) {
    const Sequence &want = base.sequences()[i], &have = work.sequences[i];
    if (want == have) continue;
    const char* what = want.image_digest != have.image_digest ? "another picture" : "other tokens";
    return make_error(ErrorCode::kMismatch, "%s was made with %s in prompt %d", path, what, i + 1);
  }
  return {};
}

Result<Work> collect_work(const std::shared_ptr<const Model>& model, Ops& ops, const PerplexityOptions& o,
                          const KlBase* base, const ProgressSink& progress) {
  Work work;
  if (!o.prompts_file.empty()) {
    GLIMPSE_ASSIGN(work, work_of_prompts(model, ops, o, progress));
    if (base != nullptr) GLIMPSE_TRY(check_same(*base, work, o.kl_base));
    return work;
  }
  if (base == nullptr) {
    GLIMPSE_ASSIGN(const std::string text, read_text(o.text_file));
    auto chunks = eval::chunks_of_text(model->tokenizer(), text, o.n_ctx, o.n_chunks);
    if (!chunks.ok()) return with_context(chunks.error(), o.text_file);
    work.sequences = std::move(chunks).value();
    return work;
  }
  work.sequences = base->sequences();
  for (const Sequence& s : work.sequences) {
    if (s.image_digest.empty()) continue;
    return make_error(ErrorCode::kInvalidArgument, "%s was made with pictures: give the same --prompts FILE",
                      o.kl_base);
  }
  if (o.n_chunks > 0 && static_cast<size_t>(o.n_chunks) < work.sequences.size()) {
    work.sequences.resize(static_cast<size_t>(o.n_chunks));
  }
  return work;
}

struct Scored {
  std::vector<eval::TokenScore> scores;
  std::string backend;
};

Result<Scored> score(const PerplexityOptions& o, const KlBase* base, ProgressLine& line) {
  const ProgressSink progress = [&line](std::string_view stage, double fraction) {
    line.show(stage, fraction);
    return !interrupted();
  };
  ModelOptions options;
  options.model_path = o.model;
  options.mmproj_path = o.mmproj;
  set_device(o.where, options);
  options.use_reference = o.reference;
  options.n_threads = o.n_threads;
  options.text_precision = o.f32() ? WeightPrecision::kF32 : WeightPrecision::kAsStored;
  options.f32_tensors = o.f32_weights;
  options.vision_precision = o.f32() ? VisionPrecision::kF32 : vision_precision(o.vision_precision);
  options.progress = progress;
  options.log = WarningSink{};
  GLIMPSE_ASSIGN(const std::shared_ptr<const Model> model, Model::load(options));
  const int64_t n_vocab = model->text().vocab_size;
  if (base != nullptr && base->n_vocab() != n_vocab) {
    return make_error(ErrorCode::kMismatch, "%s is over a vocabulary of %d, %s has %d", o.kl_base, base->n_vocab(),
                      o.model, n_vocab);
  }
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model->make_ops(o.n_threads, WarningSink{}));
  GLIMPSE_ASSIGN(const Work work, collect_work(model, *ops, o, base, progress));
  size_t longest = 0;
  for (const Sequence& s : work.sequences) longest = std::max(longest, s.ids.size());
  const bool f32_kv = o.kv_type.empty() && (o.f32() || o.reference);
  GLIMPSE_ASSIGN(eval::Scorer scorer, eval::Scorer::create(model, *ops, static_cast<int64_t>(longest),
                                                           f32_kv ? KvElement::kF32 : kv_element(o.kv_type)));
  std::optional<KlBaseWriter> writer;
  if (o.save_base) {
    const bool gguf = o.exact || !o.prompts_file.empty();
    GLIMPSE_ASSIGN(writer,
                   KlBaseWriter::create(
                       o.kl_base, o.force ? AtomicFileWriter::Existing::kReplace : AtomicFileWriter::Existing::kRefuse,
                       gguf ? KlBaseWriter::Format::kGguf : KlBaseWriter::Format::kLlama, n_vocab, work.sequences));
  }
  Scored result;
  result.backend = ops->describe();
  std::vector<float> log_probs(static_cast<size_t>(n_vocab));
  for (size_t i = 0; i < work.sequences.size(); ++i) {
    const Sequence& s = work.sequences[i];
    eval::PictureRows picture;
    if (!work.picture_embeddings.empty() && work.picture_embeddings[i] != nullptr) {
      picture = {work.picture_positions[i], work.picture_embeddings[i].get()};
    }
    const auto on_row = [&](int64_t row, std::span<const float> logits) -> Status {
      const int64_t token = s.ids[static_cast<size_t>(s.first + row + 1)];
      const eval::Softmax softmax = eval::measure_softmax(logits);
      if (base != nullptr) {
        GLIMPSE_TRY(base->read_row(i, row, log_probs));
        result.scores.push_back(score_token(logits, softmax, token, log_probs, base->floor()));
      } else {
        result.scores.push_back(score_token(logits, softmax, token));
      }
      return writer ? writer->add(logits) : Status();
    };
    line.show("score", static_cast<double>(i) / static_cast<double>(work.sequences.size()));
    GLIMPSE_TRY(scorer.run(s, picture, on_row, [](std::string_view, double) { return !interrupted(); }));
  }
  if (writer) GLIMPSE_TRY(writer->commit());
  return result;
}

void print_estimate(const char* label, const eval::Estimate& e, double unit, const char* suffix) {
  print_format("%-30s %12.6f +/- %.6f%s\n", label, unit * e.value, unit * e.error, suffix);
}

void print_percentiles(const char* label, const std::vector<eval::Percentile>& values, double unit,
                       const char* suffix) {
  for (const eval::Percentile& p : values) {
    char name[40];
    std::snprintf(name, sizeof name,
                  p.percent == 100 ? "maximum %s"
                  : p.percent == 0 ? "minimum %s"
                                   : "%s at %g%%",
                  label, p.percent);
    print_format("%-30s %12.6f%s\n", name, unit * p.value, suffix);
  }
}

void print_text(const eval::Statistics& s, const std::string& backend, bool compared) {
  print_format("%lld tokens scored on %s\n", static_cast<long long>(s.count), backend.c_str());
  print_estimate("perplexity", s.perplexity, 1, "");
  if (!compared) return;
  print_estimate("perplexity of the base", s.base_perplexity, 1, "");
  print_estimate("ln(perplexity / base)", s.log_ratio, 1, "");
  print_format("%-30s %12.4f%%\n", "correlation of ln(p)", 100 * s.correlation);
  print_estimate("mean KL divergence", s.kld, 1, "");
  print_percentiles("KL divergence", s.kld_percentiles, 1, "");
  print_estimate("mean p - p(base)", s.p_diff, 100, " %");
  print_percentiles("p - p(base)", s.p_diff_percentiles, 100, " %");
  print_estimate("RMS p - p(base)", s.rms_p_diff, 100, " %");
  print_estimate("same most likely token", s.same_top, 100, " %");
}

nlohmann::json to_json(const eval::Estimate& e) {
  return {{"value", e.value}, {"error", e.error}};
}
nlohmann::json to_json(const std::vector<eval::Percentile>& values) {
  nlohmann::json list = nlohmann::json::array();
  for (const eval::Percentile& p : values) list.push_back({{"percent", p.percent}, {"value", p.value}});
  return list;
}

void print_json(const eval::Statistics& s, const std::string& backend, bool compared) {
  nlohmann::json json = {{"backend", backend}, {"tokens", s.count}, {"perplexity", to_json(s.perplexity)}};
  if (compared) {
    json["base_perplexity"] = to_json(s.base_perplexity);
    json["log_ratio"] = to_json(s.log_ratio);
    json["correlation"] = s.correlation;
    json["kld"] = to_json(s.kld);
    json["kld_percentiles"] = to_json(s.kld_percentiles);
    json["p_diff"] = to_json(s.p_diff);
    json["p_diff_percentiles"] = to_json(s.p_diff_percentiles);
    json["rms_p_diff"] = to_json(s.rms_p_diff);
    json["same_top"] = to_json(s.same_top);
  }
  print_object(json);
}

// What the option parser cannot say; empty when all is well.
std::string wrong_flags(const PerplexityOptions& o) {
  if (!o.kl_base.empty() && !o.save_base && !o.kl_divergence) {
    return "--kl-base FILE is written by --save-base and read by --kl-divergence: give one of them";
  }
  if (o.kl_divergence && !o.text_file.empty()) return "the base file holds the tokens of its text: leave -f out";
  if (!o.kl_divergence && o.text_file.empty() && o.prompts_file.empty()) {
    return "nothing to score: give -f TEXT or --prompts FILE";
  }
  return "";
}

int perplexity(const PerplexityOptions& o) {
  const std::string wrong = wrong_flags(o);
  if (!wrong.empty()) {
    print_error(wrong);
    return kExitUsage;
  }
  catch_interrupts();
  ProgressLine line(o.json);
  const auto fail = [&line](const Error& error) {
    line.clear();
    print_error(error.message);
    return error.code == ErrorCode::kCancelled ? kExitCancelled : kExitError;
  };
  if (o.save_base && !o.force && std::filesystem::exists(std::filesystem::symlink_status(o.kl_base))) {
    return fail(
        make_error(ErrorCode::kInvalidArgument, "%s exists already and is not overwritten (--force does)", o.kl_base));
  }
  std::optional<KlBase> base;
  if (o.kl_divergence) {
    Result<KlBase> opened = KlBase::open(o.kl_base);
    if (!opened.ok()) return fail(opened.error());
    base = std::move(opened).value();
  }
  const Result<Scored> scored = score(o, base ? &*base : nullptr, line);
  if (!scored.ok()) return fail(scored.error());
  line.clear();
  const eval::Statistics statistics = eval::summarize(scored.value().scores);
  (o.json ? print_json : print_text)(statistics, scored.value().backend, base.has_value());
  return kExitOk;
}

}  // namespace

void add_perplexity(CLI::App& app, int* status) {
  auto o = std::make_shared<PerplexityOptions>();
  CLI::App* command = app.add_subcommand(
      "perplexity", "perplexity of a text, and the divergence of this engine's predictions from a reference's");
  command->add_option("-m,--model", o->model, "text model (GGUF)")->required();
  command->add_option("--mmproj", o->mmproj, "vision encoder (GGUF), for prompts with pictures");
  CLI::Option* text = command->add_option("-f,--file", o->text_file, "text to score, in chunks of -c tokens");
  command
      ->add_option(
          "--prompts", o->prompts_file,
          "prompts to score: a JSON object per line, {\"image\": path, \"prompt\": text, \"answer\": text}; the "
          "answer's tokens count")
      ->excludes(text);
  command->add_option("-c,--ctx-size", o->n_ctx, "tokens of a chunk; the second half of each counts")
      ->check(CLI::Range(int64_t{4}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--chunks", o->n_chunks, "score at most this many chunks; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
      ->capture_default_str();
  CLI::Option* base = command->add_option(
      "--kl-base,--kl-divergence-base", o->kl_base,
      "file of reference predictions: llama-perplexity's format for texts, a GGUF for prompts and with --exact");
  CLI::Option* save =
      command->add_flag("--save-base", o->save_base, "write --kl-base: this run is the reference")->needs(base);
  command->add_flag("--kl-divergence", o->kl_divergence, "compare with --kl-base")->needs(base)->excludes(save);
  command->add_flag("--exact", o->exact, "save floats (in a GGUF) instead of llama-perplexity's 16 bits")->needs(save);
  command->add_flag("--force", o->force, "overwrite an existing --kl-base")->needs(save);
  command
      ->add_option("--precision", o->precision,
                   "stored: the engine as it answers; f32: the reference to compare with: weights dequantised to "
                   "float, float activations, keys and values on the same kernels (4 bytes per weight, slow)")
      ->check(CLI::IsMember({"stored", "f32"}))
      ->capture_default_str();
  command->add_flag("--reference", o->reference,
                    "scalar oracle: dequantised weights, double accumulation; very slow, for tiny models");
  command
      ->add_option(
          "--f32-weights", o->f32_weights,
          "matrices whose name contains one of these are dequantised to float, so that their activations are not "
          "quantised: finds out which products cost accuracy (attn_q, ffn_down, ...)")
      ->delimiter(',');
  add_kv_type(*command, "--kv-type", o->kv_type, "keys and values; default: f32 with --precision f32, else f16");
  add_vision_precision(*command, o->vision_precision);
  add_device_choice(*command, o->where);
  command->add_option("--image-min-tokens", o->image_min_tokens, "enlarge smaller pictures; 0: the model's bound");
  command->add_option("--image-max-tokens", o->image_max_tokens, "shrink larger pictures; 0: 1280");
  command->add_option("-t,--threads", o->n_threads, "threads; 0: one per available CPU")->capture_default_str();
  command->add_flag("--json", o->json, "print one JSON object");
  on_run(*command, status, [o] { return perplexity(*o); });
}

}  // namespace glimpse::cli
