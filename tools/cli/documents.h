// Manual pages and shell completions, made from the options that the commands have.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace glimpse::cli {

/// Completion scripts of the whole program.
std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);
std::string fish_completion(const CLI::App& app);

/// The page of the program (section 1, roff with the man macros), and that of one of its commands.
std::string program_page(const CLI::App& app);
std::string command_page(const CLI::App& app, const CLI::App& command);

/// Adds `completion SHELL`, which prints one, and a command for the build that writes all of it into a directory.
void add_documents(CLI::App& app, int* status);

}  // namespace glimpse::cli
