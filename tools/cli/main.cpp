// glimpse: one binary, one subcommand per task.
#include <algorithm>
#include <string>
#include <vector>

#include "tools/cli/arguments.h"
#include "tools/cli/commands.h"
#include "tools/cli/documents.h"
#include "tools/cli/terminal.h"
#include "tools/cli/version.h"

namespace {

using namespace glimpse::cli;

int wrong_usage(const std::string& program, const std::string& message) {
  print_note("%s: %s", program.c_str(), message.c_str());
  print_note("%s --help lists what there is", program.c_str());
  return kExitUsage;
}

// Of "glimpse", or of "glimpse run" when that command was being read.
int wrong_words(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  if (chosen.empty()) return wrong_usage(app.get_name(), in_plain_words(app, error));
  return wrong_usage(app.get_name() + " " + chosen.back()->get_name(), in_plain_words(*chosen.back(), error));
}

// Help and version come as exceptions from CLI11; so does what is wrong.
int finish_parse(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() != static_cast<int>(CLI::ExitCodes::Success)) {
    return wrong_words(app, error);
  }
  const bool is_version = dynamic_cast<const CLI::CallForVersion*>(&error) != nullptr;
  print(is_version ? std::string(error.what()) + "\n" : app.help());
  return kExitOk;
}

int run_command(int argc, char** argv) {
  CLI::App app{"glimpse answers questions about pictures with Qwen2-VL models in GGUF files.", "glimpse"};
  app.set_version_flag("--version", version_text, "What this program is: version, build, instruction sets, backends");
  app.require_subcommand(1);
  int status = kExitOk;
  add_run(app, &status);
  add_chat(app, &status);
  add_batch(app, &status);
#ifdef GLIMPSE_HAS_SERVE
  add_serve(app, &status);
  add_load(app, &status);
#endif
  add_embed(app, &status);
  add_rerank(app, &status);
  add_inspect(app, &status);
  add_synth(app, &status);
  add_quantize(app, &status);
  add_bench(app, &status);
  add_perplexity(app, &status);
  add_diff(app, &status);
  add_compare(app, &status);
  add_eval(app, &status);
  add_documents(app, &status);
  try {
    std::vector<std::string> arguments = plain_arguments(app, {argv + 1, argv + argc});
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
    app.parse(arguments);
  } catch (const UsageError& error) {
    return wrong_usage(error.program(), error.what());
  } catch (const CLI::ParseError& error) {
    return finish_parse(app, error);
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  int status = kExitError;
  try {
    status = run_command(argc, argv);
  } catch (const std::exception& error) {
    print_error(error.what());
  }
  if (status == kExitCancelled && interrupt_signal() != 0) status = 128 + interrupt_signal();
  if (!flush_output() && status == kExitOk) status = kExitError;
  return status;
}
