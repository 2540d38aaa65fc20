// glimpse: one binary, one subcommand per task.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "engine/include/glimpse/glimpse.h"
#include "tools/cli/commands.h"
#include "tools/cli/terminal.h"

namespace {

// What was printed may have met a full disk or a closed pipe; an answer that is lost is no success.
bool flush_output() {
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (failed) std::perror("glimpse: cannot write to standard output");
  return !failed;
}

// llama.cpp's users type -sys; the option parser knows one letter after one dash.
std::string long_name(const std::string& argument) {
  static const std::pair<const char*, const char*> names[] = {
      {"-sys", "--system"}, {"-pg", "--pg"}, {"-ctk", "--cache-type-k"}};
  for (const auto& [given, known] : names) {
    if (argument == given) return known;
  }
  return argument;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace glimpse::cli;
  CLI::App app{"glimpse answers questions about pictures with Qwen2-VL models in GGUF files."};
  app.set_version_flag("--version", std::string("glimpse ") + glimpse_version());
  app.require_subcommand(1);
  int status = kExitOk;
  add_run(app, &status);
  add_inspect(app, &status);
  add_synth(app, &status);
  add_quantize(app, &status);
  add_bench(app, &status);
  add_perplexity(app, &status);
  add_diff(app, &status);
  add_compare(app, &status);
  add_eval(app, &status);

  std::vector<std::string> arguments;
  for (int i = argc - 1; i > 0; --i) arguments.push_back(long_name(argv[i]));  // CLI11 takes them in reverse
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "glimpse: %s\n", error.what());
    return kExitError;
  }
  if (status == kExitCancelled && interrupt_signal() != 0) status = 128 + interrupt_signal();
  if (!flush_output() && status == kExitOk) status = kExitError;
  return status;
}
