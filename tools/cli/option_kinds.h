// Options as many commands have them: kinds of values, and what a command runs.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "tools/cli/exit_status.h"

namespace glimpse::cli {

/// With its default in the help.
template <typename T>
CLI::Option* add_value(CLI::App& command, const char* name, T& value, const std::string& text) {
  return command.add_option(name, value, text)->capture_default_str();
}
/// A number from `least` to `most`.
template <typename T>
CLI::Option* add_number(CLI::App& command, const char* name, T& value, const std::string& text,
                        std::type_identity_t<T> least, std::type_identity_t<T> most) {
  return add_value(command, name, value, text)->check(CLI::Range(least, most));
}
/// One of `words`.
inline CLI::Option* add_word(CLI::App& command, const char* name, std::string& value, const std::string& text,
                             const std::vector<std::string>& words) {
  return command.add_option(name, value, text)->check(CLI::IsMember(words))->capture_default_str();
}
/// MiB of the files in a directory of embeddings.
inline CLI::Option* add_directory_size(CLI::App& command, const char* name, int64_t& mib) {
  return add_number(command, name, mib, "MiB of files there; those used longest ago go first; 0: no limit", 0,
                    int64_t{1} << 30);
}

/// run() returns the exit status, or a Status, or throws.
template <typename Run>
void on_run(CLI::App& command, int* status, Run run) {
  command.callback([status, run] {
    *status = exit_status_of([&] {
      if constexpr (std::is_same_v<std::invoke_result_t<Run>, Status>) {
        return exit_status(run());
      } else {
        return run();
      }
    });
  });
}

}  // namespace glimpse::cli
