// glimpse bench: how fast a model runs here, in llama-bench's terms, with pictures, stages and the machine's limits.
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/engine/machine.h"
#include "bench/engine/plan.h"
#include "bench/engine/report.h"
#include "bench/engine/runner.h"
#include "engine/base/cpu_features.h"
#include "engine/base/file.h"
#include "tools/cli/commands.h"
#include "tools/cli/device_choice.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/kv_type.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/cli/vision_precision.h"
#include "tools/cli/warnings.h"

namespace glimpse::cli {
namespace {

// A model to measure.
struct Subject {
  std::string model, mmproj;  // mmproj: empty without one
};

struct BenchCommand {
  std::vector<std::string> models, mmprojs;
  std::string output = "md", kv_type = kUsualKvType, vision_precision = "auto", trace;
  std::vector<int64_t> n_prompt, n_gen, n_depth = {0}, n_parallel = {1};
  std::vector<int> n_threads = {0};
  std::vector<std::string> prompt_and_gen, images, first_token, end_to_end;
  int repetitions = 5;
  int64_t n_batch = 512, image_min_tokens = 0, image_max_tokens = 0;
  uint64_t seed = 1;
  DeviceChoice where;
  bool no_warmup = false, no_roofline = false, profile = false, force = false;
};

template <typename T>
std::optional<std::vector<T>> if_given(const CLI::App& command, const char* option, const std::vector<T>& values) {
  if (command.count(option) == 0) return std::nullopt;
  return values;
}

// An mmproj is for all models, or each has its own.
Result<std::vector<Subject>> subjects(const BenchCommand& c) {
  const size_t n = c.mmprojs.size();
  if (n > 1 && n != c.models.size()) {
    return make_error(ErrorCode::kInvalidArgument, "%d models and %d mmproj files: give one for all, or one for each",
                      c.models.size(), n);
  }
  if (!c.trace.empty() && c.models.size() > 1) {
    return make_error(ErrorCode::kInvalidArgument, "--trace shows one model: %d were given", c.models.size());
  }
  std::vector<Subject> list;
  for (size_t i = 0; i < c.models.size(); ++i) {
    list.push_back({c.models[i], n == 0 ? "" : c.mmprojs[n == 1 ? 0 : i]});
  }
  return list;
}

bench::PlanRequest plan_request(const CLI::App& command, const BenchCommand& c) {
  bench::PlanRequest request;
  request.n_prompt = if_given(command, "--n-prompt", c.n_prompt);
  request.n_gen = if_given(command, "--n-gen", c.n_gen);
  request.n_depth = c.n_depth;
  request.n_parallel = c.n_parallel;
  request.prompt_and_gen = c.prompt_and_gen;
  request.images = if_given(command, "--image", c.images);
  request.first_token = if_given(command, "--ttft", c.first_token);
  request.end_to_end = if_given(command, "--e2e", c.end_to_end);
  request.has_vision = !c.mmprojs.empty();
  return request;
}

// Opened before anything is measured: a path that cannot be written is said at once, and a file that appears meanwhile
// is not overwritten.
Result<AtomicFileWriter> open_trace(const BenchCommand& c) {
  return AtomicFileWriter::create(c.trace,
                                  c.force ? AtomicFileWriter::Existing::kReplace : AtomicFileWriter::Existing::kRefuse);
}

Status write_trace(AtomicFileWriter& file, const Model& model, const std::vector<bench::TestResult>& results) {
  const std::string text = bench::trace_json(model, results);
  GLIMPSE_TRY(file.write(std::as_bytes(std::span(text.data(), text.size()))));
  if (interrupted()) return make_error(ErrorCode::kCancelled, "interrupted");
  return file.commit();
}

Result<std::shared_ptr<const Model>> load(const BenchCommand& c, const Subject& subject, ProgressLine& line) {
  ModelOptions options;
  options.model_path = subject.model;
  options.mmproj_path = subject.mmproj;
  options.vision_precision = vision_precision(c.vision_precision);
  set_device(c.where, options);
  options.log = WarningSink{};
  options.progress = [&](std::string_view stage, double fraction) {
    line.show(stage, fraction);
    return !interrupted();
  };
  Result<std::shared_ptr<const Model>> model = Model::load(options);
  line.clear();
  return model;
}

Result<bench::RunnerOptions> runner_options(const BenchCommand& c, const Model& model) {
  bench::RunnerOptions options;
  options.repetitions = c.repetitions;
  options.warm_up = !c.no_warmup;
  options.roofline = !c.no_roofline;
  options.profile = c.profile || !c.trace.empty();
  options.batch = c.n_batch;
  options.kv_element = kv_element(c.kv_type);
  options.seed = c.seed;
  options.progress = [](std::string_view, double) { return !interrupted(); };
  if (model.has_vision()) {
    GLIMPSE_ASSIGN(options.image_limits,
                   effective_limits(options.image_limits, c.image_min_tokens, c.image_max_tokens, model.vision()));
  }
  return options;
}

Result<bench::ReportContext> report_context(const BenchCommand& c, const Subject& subject) {
  bench::ReportContext context;
  GLIMPSE_ASSIGN(context.model, bench::read_model_facts(subject.model));
  if (!subject.mmproj.empty()) {
    GLIMPSE_ASSIGN(context.mmproj, bench::read_model_facts(subject.mmproj));
  }
  context.cpu = bench::cpu_info();
  context.batch = c.n_batch;
  context.kv_type = c.kv_type;
  context.cuda_decode = c.where.cuda_decode;
  return context;
}

void show(bench::ReportFormat format, const std::string& text) {
  format == bench::ReportFormat::kMarkdown ? print(text) : print_data(text);
  flush_output();  // a long run shows each row when it is there
}

// Runs the tests and prints as they come. On return `results` holds those that were finished.
// first: no row was printed before.
Status run_tests(const BenchCommand& c, const std::vector<bench::TestSpec>& plan, bench::Runner& runner,
                 const bench::ReportContext& context, bool first, ProgressLine& line,
                 std::vector<bench::TestResult>& results) {
  const bench::ReportFormat format = *bench::report_format_from_name(c.output);
  for (const int asked : c.n_threads) {
    const int n_threads = asked == 0 ? available_cpus() : asked;
    for (const bench::TestSpec& test : plan) {
      if (interrupted()) return make_error(ErrorCode::kCancelled, "interrupted");
      line.show(bench::test_name(test), 0);
      Result<bench::TestResult> result = runner.run(test, n_threads);
      line.clear();
      if (!result.ok()) return with_context(result.error(), bench::test_name(test));
      show(format, bench::report_row(format, context, result.value(), first && results.empty()));
      // Programs that read rows find the profile in them (json) or not at all (csv, sql): then it is for the eyes.
      if (c.profile && (format == bench::ReportFormat::kCsv || format == bench::ReportFormat::kSql)) {
        print_aside(bench::profile_table(result.value()));
      }
      results.push_back(std::move(result).value());
    }
  }
  return {};
}

// One model: a table of its own in Markdown, rows of one list in the other formats. begun: something was printed.
Status bench_model(const BenchCommand& c, const std::vector<bench::TestSpec>& plan, const Subject& subject,
                   const bench::ReportContext& context, bool first, ProgressLine& line, AtomicFileWriter& trace,
                   bool& begun) {
  const bench::ReportFormat format = *bench::report_format_from_name(c.output);
  const bool markdown = format == bench::ReportFormat::kMarkdown;
  GLIMPSE_ASSIGN(const std::shared_ptr<const Model> model, load(c, subject, line));
  GLIMPSE_ASSIGN(const bench::RunnerOptions options, runner_options(c, *model));
  bench::Runner runner(model, options);
  if (markdown || first) show(format, (first ? "" : "\n") + bench::report_begin(format, context));
  begun = true;
  std::vector<bench::TestResult> results;
  const Status done = run_tests(c, plan, runner, context, first, line, results);
  if (markdown) show(format, bench::report_end(format, context, results));  // what was measured stays readable
  if (c.profile && markdown) {
    for (const bench::TestResult& result : results) show(format, bench::profile_table(result));
  }
  GLIMPSE_TRY(done);
  return c.trace.empty() ? Status() : write_trace(trace, *model, results);
}

Status run_bench(const CLI::App& command, const BenchCommand& c) {
  GLIMPSE_ASSIGN(const std::vector<bench::TestSpec> plan, bench::make_plan(plan_request(command, c)));
  GLIMPSE_ASSIGN(const std::vector<Subject> list, subjects(c));
  catch_interrupts();
  AtomicFileWriter trace;
  if (!c.trace.empty()) {
    GLIMPSE_ASSIGN(trace, open_trace(c));
  }
  std::vector<bench::ReportContext> contexts;  // a file that cannot be read is said before minutes are spent on others
  for (const Subject& subject : list) {
    GLIMPSE_ASSIGN(bench::ReportContext context, report_context(c, subject));
    contexts.push_back(std::move(context));
  }
  const bench::ReportFormat format = *bench::report_format_from_name(c.output);
  const bool markdown = format == bench::ReportFormat::kMarkdown;
  ProgressLine line(false);
  Status done;
  bool begun = false;
  for (size_t i = 0; i < list.size() && done.ok(); ++i) {
    done = bench_model(c, plan, list[i], contexts[i], i == 0, line, trace, begun);
  }
  if (!markdown && begun) show(format, bench::report_end(format, contexts[0], {}));
  return done;
}

void add_options(CLI::App& command, BenchCommand& c) {
  const auto list = [](CLI::Option* option) { option->delimiter(',')->allow_extra_args(false); };
  const auto several = [](CLI::Option* option) { option->allow_extra_args(false); };
  several(command.add_option("-m,--model", c.models, "text model, GGUF; may be given several times")->required());
  several(command.add_option("--mmproj", c.mmprojs, "vision encoder, GGUF; one for all models, or one for each"));
  list(command.add_option("-p,--n-prompt", c.n_prompt, "pp: tokens of a prompt, a list; 0: none; default: 512"));
  list(command.add_option("-n,--n-gen", c.n_gen, "tg: tokens generated one by one, a list; 0: none; default: 128"));
  several(command.add_option("--pg", c.prompt_and_gen, "PROMPT,GENERATED: both in one test (also -pg)"));
  list(command.add_option("-d,--n-depth", c.n_depth, "tokens in the context before a text test, a list")
           ->capture_default_str());
  list(command
           .add_option("--parallel", c.n_parallel,
                       "conversations of a text test that share its passes, a list (also "
                       "-np, -npl)")
           ->capture_default_str());
  list(command.add_option("--image", c.images, "WxH of a picture that is made, or a file: a list"));
  several(command.add_option("--ttft", c.first_token,
                             "[PICTURE+]TOKENS: from a picture and so many tokens of text to the first token"));
  several(command.add_option("--e2e", c.end_to_end, "[PICTURE+]TOKENS+ANSWER: the same to the end of an answer"));
  command.add_option("-r,--repetitions", c.repetitions, "repetitions of each test")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  list(command.add_option("-t,--threads", c.n_threads, "threads, a list; 0: one per available CPU")
           ->check(CLI::Range(0, 1024))
           ->capture_default_str());
  command.add_option("-b,--batch-size", c.n_batch, "rows per pass (llama-bench's -ub)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  add_kv_type(command, "--kv-type,--cache-type-k", c.kv_type, "type of the key/value cache (also -ctk)");
  add_vision_precision(command, c.vision_precision);
  add_device_choice(command, c.where);
  command.add_option("--image-min-tokens", c.image_min_tokens, "enlarge pictures to at least this many tokens")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--image-max-tokens", c.image_max_tokens, "shrink pictures to at most this many tokens")
      ->check(CLI::NonNegativeNumber);
  command.add_option("-o,--output", c.output, "md, csv, json, jsonl or sql")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl", "sql"}))
      ->capture_default_str();
  command.add_option("-s,--seed", c.seed, "seed of random tokens")->capture_default_str();
  command.add_flag("--no-warmup", c.no_warmup, "skip the run before the repetitions");
  command.add_flag("--no-roofline", c.no_roofline, "do not measure what the CPU, or the GPU, can do");
  command.add_flag("--profile", c.profile, "record one more repetition: time, FLOP and bytes of every operation");
  command.add_option("--trace", c.trace, "write that repetition for chrome://tracing or ui.perfetto.dev");
  command.add_flag("--force", c.force, "overwrite an existing trace");
}

}  // namespace

void add_bench(CLI::App& app, int* status) {
  auto c = std::make_shared<BenchCommand>();
  CLI::App* command = app.add_subcommand("bench", "measure a model: prompts, generation, pictures, first token");
  add_options(*command, *c);
  on_run(*command, status, [c, command] { return run_bench(*command, *c); });
}

}  // namespace glimpse::cli
