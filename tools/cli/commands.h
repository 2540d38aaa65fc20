// The subcommands of the glimpse binary. Each adds its options to the application and runs when it is chosen.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace glimpse::cli {

/// Exit statuses of the command.
constexpr int kExitOk = 0;
constexpr int kExitError = 1;        // the message is on stderr
constexpr int kExitUsage = 2;        // wrong flags
constexpr int kExitRowsFailed = 3;   // of a batch: some, the others are written
constexpr int kExitCancelled = 130;  // by Ctrl-C; 128 + its number by another signal

/// A subcommand returns its exit status through *status.
void add_run(CLI::App& app, int* status);
void add_batch(CLI::App& app, int* status);
void add_serve(CLI::App& app, int* status);
void add_chat(CLI::App& app, int* status);
void add_embed(CLI::App& app, int* status);
void add_rerank(CLI::App& app, int* status);
void add_inspect(CLI::App& app, int* status);
void add_synth(CLI::App& app, int* status);
void add_quantize(CLI::App& app, int* status);
void add_bench(CLI::App& app, int* status);
void add_perplexity(CLI::App& app, int* status);
void add_diff(CLI::App& app, int* status);
void add_compare(CLI::App& app, int* status);
void add_load(CLI::App& app, int* status);
void add_eval(CLI::App& app, int* status);

}  // namespace glimpse::cli
