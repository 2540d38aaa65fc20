// glimpse batch: one question about many pictures, or many questions, into a table.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/base/hash.h"
#include "engine/model/model.h"
#include "engine/serve/engine.h"
#include "tools/batch/batch.h"
#include "tools/cli/commands.h"
#include "tools/cli/constraint_choice.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/model_choice.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/sampling_choice.h"
#include "tools/cli/terminal.h"
#include "tools/cli/video_choice.h"
#include "tools/prompt/prompt.h"

namespace glimpse::cli {
namespace {

struct BatchOptions {
  ModelChoice model;
  SamplingChoice sampling;
  ConstraintChoice constraint;
  VideoChoice video;
  std::vector<std::string> inputs;
  batch::InputOptions input;
  std::string prompt, prompt_file, system, output, input_format = "auto", output_format = "auto", delimiter;
  std::string image_cache;
  int64_t image_cache_mib = 4096;
  int32_t n_parallel = 4, pdf_dpi = 150;
  bool unordered = false, resume = false, force = false, no_header = false, no_cache = false;
};

void add_input_options(CLI::App& batch, BatchOptions& o) {
  batch
      .add_option("input", o.inputs,
                  "pictures, PDF files (a row for each page), folders of them, patterns in quotes, a list of names "
                  "(.txt), JSON Lines (.jsonl), CSV (.csv, .tsv), or '-': standard input, a list or JSON Lines")
      ->required();
  CLI::Option* const question =
      batch.add_option("-p,--prompt", o.prompt,
                       "the question of rows that bring none; <image> in it is a picture's place, without it pictures "
                       "come first");
  batch.add_option("-f,--file", o.prompt_file, "read it from a text file; its last line break is left out")
      ->excludes(question);
  batch.add_option("--system", o.system, "system prompt of rows that bring none (also -sys); default: the model's own");
  add_word(batch, "--input-format", o.input_format, "of files and standard input: auto, picture, list, jsonl or csv",
           {"auto", "picture", "list", "jsonl", "csv"});
  batch.add_flag("--recursive", o.input.recursive, "look into the folders of folders, too");
  batch.add_option("--image-root", o.input.image_root, "folder where relative names in lists and rows begin");
  batch.add_option("--image-field", o.input.image_field, "of JSON and CSV rows: the picture, or pictures")
      ->capture_default_str();
  batch
      .add_option("--video-field", o.input.video_field,
                  "of JSON and CSV rows: the video, or videos: animated GIF or WebP, film, folder of frames")
      ->capture_default_str();
  batch.add_option("--prompt-field", o.input.prompt_field, "of JSON and CSV rows: the question")->capture_default_str();
  batch.add_option("--id-field", o.input.id_field, "of JSON and CSV rows: what is copied to the output as id")
      ->capture_default_str();
  batch.add_option("--delimiter", o.delimiter, "one character between the fields of a CSV row; default: , or a tab");
  add_number(batch, "--pdf-dpi", o.pdf_dpi, "dots per inch of the pages of PDF files", 10, 1200);
}

void add_output_options(CLI::App& batch, BatchOptions& o) {
  batch.add_option("-o,--output", o.output,
                   "file to write, with FILE.journal beside it to resume from; default: standard output");
  add_word(batch, "--output-format", o.output_format,
           "table (image_name | result), jsonl or csv; auto: by the file's name, else table",
           {"auto", "table", "jsonl", "csv"});
  batch.add_flag("--no-header", o.no_header, "of table and csv: leave out the first line, the columns' names");
  batch.add_flag("--unordered", o.unordered, "write rows as they are finished, with their numbers");
  CLI::Option* const resume =
      batch.add_flag("--resume", o.resume, "go on with the --output of an earlier run: what that finished is kept");
  batch.add_flag("--force", o.force, "overwrite --output")->excludes(resume);
  add_number(batch, "--parallel", o.n_parallel, "rows that are answered together", 1, 256);
  batch.add_option("--image-cache", o.image_cache,
                   "existing directory where the encoded pictures are kept for later runs");
  add_directory_size(batch, "--image-cache-size", o.image_cache_mib);
  batch.add_flag("--no-cache", o.no_cache, "compute every prompt and picture anew; the answers are the same");
}

[[noreturn]] void fail(const std::string& message) {
  throw std::runtime_error(message);
}
template <typename T>
T value_or_throw(Result<T> result) {
  if (!result.ok()) fail(result.error().message);
  return std::move(result).value();
}

batch::InputFormat input_format(const std::string& name) {
  if (name == "picture") return batch::InputFormat::kPicture;
  if (name == "list") return batch::InputFormat::kList;
  if (name == "jsonl") return batch::InputFormat::kJsonl;
  return name == "csv" ? batch::InputFormat::kCsv : batch::InputFormat::kAuto;
}

batch::OutputFormat output_format(const BatchOptions& o) {
  std::string name = o.output_format;
  if (name == "auto") name = std::filesystem::path(o.output).extension().string();
  if (name == "jsonl" || name == ".jsonl" || name == ".ndjson") return batch::OutputFormat::kJsonl;
  return name == "csv" || name == ".csv" ? batch::OutputFormat::kCsv : batch::OutputFormat::kTable;
}

// Everything that answers and lines depend on but the rows: another value, and an output cannot be resumed.
uint64_t fingerprint(const BatchOptions& o, const std::string& notation, const Model& model) {
  const ModelChoice& m = o.model;
  const glimpse_generate_params& s = o.sampling.params;
  const ConstraintChoice& c = o.constraint;
  const nlohmann::json all = {
      {"files", {model.text_fingerprint(), model.vision_fingerprint()}},
      {"model",
       {m.vision_precision, m.kv_type, m.where.device, m.where.gpu_layers, m.n_ctx, m.reference, m.image_min_tokens,
        m.image_max_tokens, m.image_min_pixels, m.image_max_pixels, m.source_max_pixels, m.source_max_mib,
        m.source_max_scans, m.dedup_patches}},
      {"sampling",
       {s.max_tokens, s.top_k, s.penalty_last_n, s.temperature, s.top_p, s.min_p, s.repetition_penalty,
        s.presence_penalty, s.frequency_penalty, s.seed, o.sampling.stop, o.sampling.logit_bias,
        s.render_special != 0}},
      {"constraint", {notation, !c.json_schema.empty(), c.json_object, c.regex, c.choices}},
      {"video",
       {o.video.fps, o.video.rate, o.video.min_frames, o.video.max_frames, o.video.min_pixels, o.video.max_pixels,
        o.video.max_tokens}},
      {"batch", {o.prompt, o.system, o.pdf_dpi, o.unordered, o.no_header, static_cast<int>(output_format(o))}}};
  const std::string text = all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  Hash64 hash;
  hash.add(std::as_bytes(std::span(text.data(), text.size())));
  return hash.value();
}

std::string clock_text(double seconds) {
  const auto s = static_cast<long long>(std::lround(seconds));
  return s >= 3600 ? format("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60) : format("%d:%02d", s / 60, s % 60);
}

// "312 of 1000 rows  31%  4.2 rows/s  2:43 left  3 failed"
std::string progress_text(const batch::Progress& p) {
  std::string text = std::to_string(p.n_done);
  const auto done = static_cast<double>(p.n_done);
  const bool known = p.n_total > 0;
  if (known) text += format(" of %.0f rows  %.0f%%", p.n_total, std::floor(100 * std::min(1.0, done / p.n_total)));
  if (!known) text += " rows";
  const auto new_rows = static_cast<double>(p.n_done - p.n_resumed);
  if (new_rows > 0 && p.seconds > 0) {
    const double rate = new_rows / p.seconds;
    text += rate >= 1 ? format("  %.1f rows/s", rate) : format("  %.1f s a row", 1 / rate);
    if (known) text += format("  %s left", clock_text(std::max(0.0, p.n_total - done) / rate));
  }
  if (p.n_failed > 0) text += format("  %d failed", p.n_failed);
  return text;
}

void check(BatchOptions& o) {
  if (o.output.empty() && (o.resume || o.force)) fail("--resume and --force are about a file: give -o FILE");
  if (!o.delimiter.empty()) {
    if (o.delimiter == "\\t") o.delimiter = "\t";
    if (o.delimiter.size() != 1 || o.delimiter.find_first_of("\"\r\n") == 0) fail("--delimiter is one character");
    o.input.delimiter = o.delimiter[0];
  }
  const bool reads_rows = std::find(o.inputs.begin(), o.inputs.end(), "-") != o.inputs.end();
  if (reads_rows && o.prompt_file == "-") fail("standard input ('-') can be read once: rows or -f");
  if (!o.prompt_file.empty()) o.prompt = value_or_throw(prompt::read_text(o.prompt_file));
  o.input.format = input_format(o.input_format);
}

batch::Settings settings_of(const BatchOptions& o, ProgressLine& line) {
  batch::Settings settings;
  settings.prompt = o.prompt;
  settings.system = o.system;
  settings.generate = generate_options(o.sampling);
  settings.n_parallel = o.n_parallel;
  settings.ordered = !o.unordered;
  settings.format = output_format(o);
  settings.pdf_dpi = o.pdf_dpi;
  settings.video = {o.video.fps, o.video.min_frames, o.video.max_frames};
  settings.video_limits = {o.video.min_pixels, o.video.max_pixels, o.video.max_tokens};
  settings.frame_rate = o.video.rate;
  settings.interrupted = [] { return interrupted(); };
  settings.progress = [&line](const batch::Progress& p) { line.say([&p] { return progress_text(p); }); };
  return settings;
}

std::unique_ptr<batch::RowOutput> open_stream(const std::string& header) {
  const auto write = [](std::string_view line) -> Status {
    print_data(line);
    if (flush_output()) return {};
    return make_error(ErrorCode::kIo, "the rows that were not written are lost");
  };
  if (!header.empty()) (void)write(header);
  return batch::output_stream(write);
}

int end_of(const batch::Report& report, const BatchOptions& o) {
  const batch::Progress& p = report.progress;
  if (report.n_unseeing > 0 && !o.model.mmproj.empty()) {
    print_note(
        "%llu of %llu rows had no %s and were asked without a picture; they have %s: is that it (--image-field)?",
        static_cast<unsigned long long>(report.n_unseeing), static_cast<unsigned long long>(p.n_done),
        o.input.image_field.c_str(), report.unused.c_str());
  }
  if (report.interrupted) {
    print_note("stopped after %llu rows%s", static_cast<unsigned long long>(p.n_done),
               o.output.empty() ? "" : "; --resume goes on");
    return kExitCancelled;
  }
  if (p.n_failed == 0) return kExitOk;
  print_note("%llu of %llu rows failed: what is wrong stands in their lines",
             static_cast<unsigned long long>(p.n_failed), static_cast<unsigned long long>(p.n_done));
  return kExitRowsFailed;
}

int run(BatchOptions& o) {
  check(o);
  batch::StopSignal stop;
  const std::unique_ptr<batch::RowSource> rows = value_or_throw(batch::open_inputs(o.inputs, o.input, &stop));
  if (o.prompt.empty() && !rows->has_prompts()) fail("there is no question: give -p TEXT or -f FILE");
  if (o.model.mmproj.empty() && !rows->has_prompts())
    fail("pictures need the vision encoder: give its file with --mmproj");
  const std::string notation = read_notation(o.constraint);
  catch_interrupts();
  ProgressLine line(false);
  ModelOptions options = model_options(o.model);
  options.progress = [&line](std::string_view stage, double fraction) {
    line.show(stage, fraction);
    return !interrupted();
  };
  auto loaded = Model::load(options);
  if (!loaded.ok() && loaded.error().code == ErrorCode::kCancelled) return kExitCancelled;
  const std::shared_ptr<const Model> model = value_or_throw(std::move(loaded));
  EngineOptions engine_choice = engine_options(o.model, model->text().max_position_embeddings);
  engine_choice.n_parallel = o.n_parallel;
  engine_choice.n_queued = batch::most_running(o.n_parallel);
  if (o.no_cache) {
    engine_choice.prompt_cache = false;
    engine_choice.image_cache_bytes = 0;
  }
  engine_choice.image_cache_dir = o.image_cache;
  engine_choice.image_cache_dir_bytes = static_cast<uint64_t>(o.image_cache_mib) << 20;
  const std::unique_ptr<Engine> engine = value_or_throw(Engine::create(model, engine_choice));

  batch::Settings settings = settings_of(o, line);
  if (model->has_vision()) settings.family = model->vision().family();
  settings.generate.constraint = value_or_throw(compile_constraint(o.constraint, notation, model->tokenizer()));
  const std::string header = o.no_header ? "" : batch::header_line(settings.format, o.unordered);
  std::unique_ptr<batch::RowOutput> output;
  std::vector<batch::OutputFile::Finished> finished;
  if (o.output.empty()) {
    output = open_stream(header);
  } else {
    const auto existing = o.resume  ? batch::OutputFile::Existing::kResume
                          : o.force ? batch::OutputFile::Existing::kReplace
                                    : batch::OutputFile::Existing::kRefuse;
    auto file = value_or_throw(batch::OutputFile::open(o.output, header, fingerprint(o, notation, *model), existing));
    finished = file->finished();
    output = std::move(file);
  }
  auto report = batch::run_batch(*engine, *rows, stop, *output, finished, settings);
  line.clear();
  return end_of(value_or_throw(std::move(report)), o);
}

}  // namespace

void add_batch(CLI::App& app, int* status) {
  auto o = std::make_shared<BatchOptions>();
  CLI::App* command = app.add_subcommand("batch", "a table of answers about a folder, a list or a file of rows");
  add_input_options(*command, *o);
  add_model_files(*command, o->model);
  add_output_options(*command, *o);
  add_sampling_options(*command, o->sampling);
  add_constraint_options(*command, o->constraint);
  add_model_options(*command, o->model, "context of a row in tokens, pictures included");
  on_run(*command, status, [o] { return run(*o); });
}

}  // namespace glimpse::cli
