// glimpse load: requests per second and latencies of a server of OpenAI's interface, ours or another's.
#include <memory>
#include <string>

#include "engine/base/file.h"
#include "tools/cli/commands.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/load/load.h"
#include "tools/prompt/prompt.h"

namespace glimpse::cli {
namespace {

struct LoadOptions {
  load::Settings settings;
  std::vector<std::string> images;
  std::string api_key_file, format = "md";
};

Status run_load(LoadOptions& o) {
  load::Settings& s = o.settings;
  for (const std::string& path : o.images) {
    GLIMPSE_ASSIGN(const std::vector<std::byte> bytes, read_file(path, uint64_t{256} << 20));
    s.images.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  if (!o.api_key_file.empty()) {
    GLIMPSE_ASSIGN(const std::string keys, prompt::read_text(o.api_key_file));
    s.api_key = keys.substr(0, keys.find('\n'));
  }
  if (s.prompt.empty()) s.prompt = s.images.empty() ? "Write a story about a lighthouse." : "Describe this image.";
  catch_interrupts();
  s.cancelled = [] { return interrupted(); };
  s.say = [](const std::string& what) { print_note("%s", what.c_str()); };
  GLIMPSE_ASSIGN(const std::vector<load::Level> levels, load::run_load(s));
  print(load::report(levels, s, o.format));
  for (const load::Level& level : levels) {
    if (level.n_failed == 0) continue;
    return make_error(ErrorCode::kIo, "%d of %d requests failed: %s", level.n_failed, level.n_requests,
                      level.first_error);
  }
  return {};
}

}  // namespace

void add_load(CLI::App& app, int* status) {
  auto o = std::make_shared<LoadOptions>();
  load::Settings& s = o->settings;
  CLI::App* command =
      app.add_subcommand("load", "requests per second and latencies of an OpenAI server, ours or another");
  const auto count = CLI::Range(int64_t{1}, int64_t{1} << 20);
  command->add_option("url", s.url, "address of the server, e.g. http://127.0.0.1:8080")->required();
  command->add_option("--image", o->images, "picture of the requests; of several each takes the next")
      ->allow_extra_args(false);
  command->add_option("-p,--prompt", s.prompt, "the question; default: one for pictures, one without");
  command->add_option("-n,--n-predict", s.max_tokens, "most tokens of an answer")->check(count)->capture_default_str();
  command->add_option("--concurrency", s.concurrency, "requests at a time (a list, with commas: one level each)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{1024}))
      ->capture_default_str();
  command->add_option("--requests", s.n_requests, "requests of a level; 0: 4 times as many as at a time")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--warmup", s.n_warmup, "requests before the first level, not counted")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}))
      ->capture_default_str();
  command->add_flag("--same", s.same,
                    "all requests begin alike, so that a server may answer from what it has computed before; default: "
                    "each has another number in front");
  command->add_option("--model", s.model, "the model's name, for servers that have several");
  command->add_option("--api-key-file", o->api_key_file, "file whose first line is the key");
  command->add_option("--extra", s.extra, "JSON object whose members each request gets, e.g. '{\"ignore_eos\": true}'");
  command->add_option("--timeout", s.timeout_seconds, "seconds that a request may take without a byte")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--wait", s.wait_seconds, "seconds to wait for a server that is not ready")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("-o,--output", o->format, "md, csv, json or jsonl")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str();
  on_run(*command, status, [o] { return run_load(*o); });
}

}  // namespace glimpse::cli
