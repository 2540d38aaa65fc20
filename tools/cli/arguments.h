// The command line before CLI11 reads it: llama.cpp's spellings, values that begin with a dash, help, and what to say
// about words that nobody knows.
#pragma once

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace glimpse::cli {

/// Wrong words on the command line: exit status 2.
class UsageError : public std::runtime_error {
 public:
  /// program: "glimpse", or "glimpse run".
  UsageError(std::string program, const std::string& message)
      : std::runtime_error(message), program_(std::move(program)) {}
  const std::string& program() const { return program_; }

 private:
  std::string program_;
};

/// Commands that people are told of, in order.
std::vector<const CLI::App*> shown_commands(const CLI::App& app);
/// Whether the option is followed by a value.
bool takes_value(const CLI::Option& option);
/// Options of a command by their names, positional ones left out, in order.
std::vector<const CLI::Option*> named_options(const CLI::App& command);

/// The arguments after the program's name as CLI11 reads them: `help run` is `run --help`; flags of llama.cpp become
/// ours, are left out where they ask for what is so anyway, or are refused with the reason; `-p VALUE` becomes
/// `--prompt=VALUE` where the value begins with a dash. Throws UsageError for a command or an option that does not
/// exist, with the nearest that does.
std::vector<std::string> plain_arguments(const CLI::App& app, const std::vector<std::string>& given);

/// What CLI11 says of words that it cannot read, in the words of somebody who typed them. command: that they were for.
std::string in_plain_words(const CLI::App& command, const CLI::ParseError& error);

/// Of `known`, the one that was probably meant, or "". Distances are those of Damerau and Levenshtein (optimal string
/// alignment), without regard to dashes in front; at most a third of the letters may differ.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace glimpse::cli
