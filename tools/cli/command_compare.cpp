// glimpse compare: the same files through glimpse and the user's own llama.cpp, side by side.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "engine/base/cpu_features.h"
#include "engine/base/file.h"
#include "tools/cli/commands.h"
#include "tools/cli/device_choice.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/cli/vision_precision.h"
#include "tools/compare/comparison.h"
#include "tools/compare/runner.h"

namespace glimpse::cli {
namespace {

struct CompareCommand {
  compare::Settings settings;
  std::string markdown, html;
  std::string pack_cache;  // empty: none
  bool pack_cache_map = false;
  DeviceChoice where;
  bool quick = false, force = false;
};

Result<std::string> own_path() {
  std::error_code failed;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) return make_error(ErrorCode::kIo, "cannot find this program's own file: give --glimpse-bin");
  return path.string();
}

// Said before anything is measured: minutes later would be late.
Status check(const CompareCommand& c) {
  for (const std::string& path : {c.settings.model, c.settings.mmproj}) {
    if (path.empty()) continue;
    GLIMPSE_ASSIGN(const File file, File::open(path));
    (void)file;
  }
  for (const std::string& path : c.settings.images) {
    GLIMPSE_ASSIGN(const File file, File::open(path));
    (void)file;
  }
  if (!c.settings.images.empty() && c.settings.mmproj.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "--image needs the vision encoder: give its file with --mmproj");
  }
  if (c.settings.images.empty() && c.settings.n_prompt == 0 && c.settings.n_gen == 0 && c.settings.n_parallel == 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "nothing to compare: --n-prompt and --n-gen are 0 without an --image");
  }
  if (!c.markdown.empty() && c.markdown == c.html) {
    return make_error(ErrorCode::kInvalidArgument, "--markdown and --html are both %s", c.html);
  }
  return check_free({c.markdown, c.html}, c.force);
}

Status write_report(const std::string& path, const std::string& text, bool force) {
  GLIMPSE_ASSIGN(AtomicFileWriter file, AtomicFileWriter::create(path, force ? AtomicFileWriter::Existing::kReplace
                                                                             : AtomicFileWriter::Existing::kRefuse));
  GLIMPSE_TRY(file.write(std::as_bytes(std::span(text.data(), text.size()))));
  return file.commit();
}

Status run_compare(CompareCommand& c, const CLI::App& command) {
  compare::Settings& s = c.settings;
  GLIMPSE_TRY(check(c));
  if (c.quick) {
    const auto unless_given = [&command](const char* option, auto& value, auto quick) {
      if (command.count(option) == 0) value = quick;
    };
    unless_given("--pairs", s.n_pairs, 1);
    unless_given("--n-prompt", s.n_prompt, 128);
    unless_given("--n-gen", s.n_gen, 16);
    unless_given("--n-depth", s.depths, std::vector<int64_t>{});
    unless_given("--n-answer", s.n_answer, 16);
  }
  s.on_gpu = runs_on_gpu(c.where);
  if (!c.pack_cache.empty()) s.our_packs = {"--pack-cache", c.pack_cache};
  if (!c.pack_cache.empty() && c.pack_cache_map) s.our_packs.push_back("--pack-cache-map");
  if (s.on_gpu) s.our_device = {"--device", "cuda", "--cuda-decode", c.where.cuda_decode};
  if (s.n_threads == 0) s.n_threads = available_cpus();
  if (s.prompts.empty()) s.prompts = {"What is in this picture?"};
  if (s.glimpse_program.empty()) {
    GLIMPSE_ASSIGN(s.glimpse_program, own_path());
  }
  catch_interrupts();
  s.cancelled = [] { return interrupted(); };
  s.say = [](const std::string& what) { print_note("%s", what.c_str()); };
  GLIMPSE_ASSIGN(const compare::Comparison comparison, compare::run_comparison(s));
  const std::string report = compare::markdown_report(comparison);
  if (!c.html.empty()) GLIMPSE_TRY(write_report(c.html, compare::html_report(comparison), c.force));
  if (!c.markdown.empty()) GLIMPSE_TRY(write_report(c.markdown, report, c.force));
  if (c.markdown.empty()) print(report);
  return {};
}

}  // namespace

void add_compare(CLI::App& app, int* status) {
  auto c = std::make_shared<CompareCommand>();
  compare::Settings& s = c->settings;
  CLI::App* command =
      app.add_subcommand("compare", "the same files, pictures and prompts through glimpse and your llama.cpp, in turn");
  command->add_option("--llama-bin", s.llama_bin, "folder of llama-bench, llama-mtmd-cli and llama-server")->required();
  command->add_option("-m,--model", s.model, "text model (GGUF)")->required();
  command->add_option("--mmproj", s.mmproj, "vision encoder (GGUF)");
  command->add_option("--image", s.images, "picture; may be given several times");
  command->add_option("-p,--prompt", s.prompts,
                      "question about each picture; may be given several times (the first is timed)");
  command->add_option("--pairs", s.n_pairs, "runs of each engine, in turn")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--quick", c->quick, "one pair of short tests: shows that all works, measures little");
  const auto count = CLI::Range(int64_t{1}, int64_t{1} << 20);
  const auto count_or_none = CLI::Range(int64_t{0}, int64_t{1} << 20);
  command->add_option("--n-prompt", s.n_prompt, "tokens of the text prompt; 0: none")
      ->check(count_or_none)
      ->capture_default_str();
  command->add_option("--n-gen", s.n_gen, "tokens generated after a text; 0: none")
      ->check(count_or_none)
      ->capture_default_str();
  command->add_option("--n-depth", s.depths, "generate also after so many tokens (a list, with commas); 0: do not")
      ->delimiter(',')
      ->check(count_or_none)
      ->capture_default_str();
  command->add_option("-n,--n-answer", s.n_answer, "tokens of an answer about a picture")
      ->check(count)
      ->capture_default_str();
  command
      ->add_option("--parallel", s.n_parallel,
                   "also start both engines' servers and let so many clients ask at a time; 0: do not")
      ->check(CLI::Range(int64_t{0}, int64_t{256}))
      ->capture_default_str();
  command->add_option("-c,--ctx-size", s.context, "context of both engines")->check(count)->capture_default_str();
  command->add_option("--image-max-tokens", s.image_max_tokens, "shrink larger pictures, in both engines")
      ->check(count)
      ->capture_default_str();
  add_vision_precision(*command, s.vision_precision, "of glimpse: auto, f32, bf16 or int8");
  command->add_option("--pack-cache", c->pack_cache,
                      "let glimpse start from side files in this directory, or auto (`glimpse run --pack-cache`)");
  command->add_flag("--pack-cache-map", c->pack_cache_map, "map them");
  add_device_choice(*command, c->where);
  command->add_option("-t,--threads", s.n_threads, "threads of both engines; 0: one per available CPU")
      ->check(CLI::Range(0, 1024));
  s.n_threads = 0;
  command->add_option("--timeout", s.timeout_seconds, "seconds that one program may take")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--glimpse-bin", s.glimpse_program, "another glimpse program to compare; default: this one");
  command->add_option("--markdown", c->markdown, "write the report there; default: standard output");
  command->add_option("--html", c->html, "write a page with charts");
  command->add_flag("--force", c->force, "overwrite existing reports");
  on_run(*command, status, [c, command] { return run_compare(*c, *command); });
}

}  // namespace glimpse::cli
