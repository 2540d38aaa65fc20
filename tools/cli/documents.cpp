#include "tools/cli/documents.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "engine/include/glimpse/glimpse.h"
#include "tools/cli/arguments.h"
#include "tools/cli/commands.h"
#include "tools/cli/terminal.h"

namespace glimpse::cli {
namespace {

// What an option's value may be, "{a,b}" in its type; empty: anything.
std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}');
  std::vector<std::string> found;
  if (open == std::string::npos || close == std::string::npos) return found;
  for (size_t at = open + 1; at < close;) {
    const size_t comma = std::min(type.find(',', at), close);
    found.push_back(type.substr(at, comma - at));
    at = comma + 1;
  }
  return found;
}

// "-m", "--model".
std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

std::string join(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

// In single quotes of a shell.
std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string replaced(std::string text, const std::string& characters, const std::string& before) {
  for (size_t at = 0; (at = text.find_first_of(characters, at)) != std::string::npos; at += before.size() + 1) {
    text.insert(at, before);
  }
  return text;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : shown_commands(app)) names.push_back(command->get_name());
  return names;
}

// -- manual pages

std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += std::string("\\&") + c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string page_head(const std::string& name, const std::string& description) {
  return ".TH \"" + upper(roff(name)) + "\" 1 \"\" \"glimpse " + glimpse_version() + "\"\n.SH NAME\n" + roff(name) +
         " \\- " + roff(description) + "\n";
}

std::string option_entry(const CLI::Option& option) {
  std::string names;
  for (const std::string& name : names_of(option)) names += (names.empty() ? "\\fB" : ", \\fB") + roff(name) + "\\fR";
  std::string entry = ".TP\n" + names;
  if (takes_value(option)) {
    const std::vector<std::string> known = choices(option);
    const std::string type = option.get_type_name();
    entry += " \\fI" + roff(known.empty() ? type.substr(0, type.find(':')) : join(known, "|")) + "\\fR";
  }
  entry += "\n" + roff(option.get_description());
  if (!option.get_default_str().empty()) entry += " (default: " + roff(option.get_default_str()) + ")";
  if (option.get_required()) entry += " (required)";
  return entry + "\n";
}

std::string synopsis(const std::string& program, const CLI::App& command) {
  std::string line = ".SH SYNOPSIS\n\\fB" + roff(program) + "\\fR [\\fIOPTIONS\\fR]";
  for (const CLI::Option* option : command.get_options([](const CLI::Option* o) { return o->get_positional(); })) {
    const std::string name = roff(option->get_name(true));
    line += option->get_required() ? " \\fI" + name + "\\fR" : " [\\fI" + name + "\\fR]";
  }
  return line + "\n";
}

constexpr const char* kExitStatus =
    ".SH EXIT STATUS\n0: done. 1: an error, which standard error names. 2: wrong options. 130: ended by Ctrl\\-C (128 "
    "and "
    "the\nnumber of another signal).\n";

}  // namespace

std::string program_page(const CLI::App& app) {
  std::string page = page_head(app.get_name(), app.get_description());
  page += ".SH SYNOPSIS\n\\fB" + roff(app.get_name()) + "\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n.SH COMMANDS\n";
  for (const CLI::App* command : shown_commands(app)) {
    page += ".TP\n\\fB" + roff(command->get_name()) + "\\fR\n" + roff(command->get_description()) + "\n";
  }
  page += ".SH OPTIONS\n";
  for (const CLI::Option* option : named_options(app)) page += option_entry(*option);
  page += kExitStatus;
  page += ".SH SEE ALSO\n";
  for (const std::string& name : command_names(app)) {
    page += ".BR " + roff(app.get_name() + "-" + name) + " (1)\n";
  }
  return page;
}

std::string command_page(const CLI::App& app, const CLI::App& command) {
  const std::string program = app.get_name() + " " + command.get_name();
  std::string page = page_head(app.get_name() + "-" + command.get_name(), command.get_description());
  page += synopsis(program, command);
  const auto positional =
      command.get_options([](const CLI::Option* o) { return o->get_positional() && !o->nonpositional(); });
  if (!positional.empty()) page += ".SH ARGUMENTS\n";
  for (const CLI::Option* option : positional) {
    page += ".TP\n\\fI" + roff(option->get_name(true)) + "\\fR\n" + roff(option->get_description()) + "\n";
  }
  page += ".SH OPTIONS\n";
  for (const CLI::Option* option : named_options(command)) page += option_entry(*option);
  page += kExitStatus;
  return page + ".SH SEE ALSO\n.BR " + roff(app.get_name()) + " (1)\n";
}

// -- completions

std::string bash_completion(const CLI::App& app) {
  std::string script =
      "# bash completion for glimpse\n"
      "_glimpse() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words=\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    words=" +
      shell_quoted(join(command_names(app), " ") + " --help --version") +
      "\n"
      "  else\n"
      "    case ${COMP_WORDS[1]} in\n"
      "      help) [ \"$COMP_CWORD\" -eq 2 ] && words=" +
      shell_quoted(join(command_names(app), " ")) + ";;\n";
  for (const CLI::App* command : shown_commands(app)) {
    if (command->get_name() == "help") continue;
    std::vector<std::string> all, with_value;
    std::string cases;
    for (const CLI::Option* option : named_options(*command)) {
      const std::vector<std::string> names = names_of(*option);
      all.insert(all.end(), names.begin(), names.end());
      if (!takes_value(*option)) continue;
      const std::vector<std::string> known = choices(*option);
      if (known.empty()) {
        with_value.insert(with_value.end(), names.begin(), names.end());
      } else {
        cases += "          " + join(names, "|") + ") words=" + shell_quoted(join(known, " ")) + ";;\n";
      }
    }
    if (!with_value.empty()) cases += "          " + join(with_value, "|") + ") ;;\n";  // file names, by default
    for (const CLI::Option* option : command->get_options([](const CLI::Option* o) { return !o->nonpositional(); })) {
      const std::vector<std::string> known = choices(*option);
      all.insert(all.end(), known.begin(), known.end());
    }
    script += "      " + command->get_name() + ")\n        case $previous in\n" + cases +
              "          *) words=" + shell_quoted(join(all, " ")) + ";;\n        esac;;\n";
  }
  return script +
         "    esac\n"
         "  fi\n"
         "  # Without an option's beginning, other words are file names.\n"
         "  if [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$current\")); fi\n"
         "}\n"
         "complete -o default -F _glimpse glimpse\n";
}

std::string zsh_completion(const CLI::App& app) {
  const auto text = [](const std::string& description) { return replaced(description, "[]:\\", "\\"); };
  std::string script = "#compdef glimpse\n_glimpse() {\n  local -a commands\n  commands=(\n";
  for (const CLI::App* command : shown_commands(app)) {
    script += "    " + shell_quoted(command->get_name() + ":" + text(command->get_description())) + "\n";
  }
  script +=
      "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n  local "
      "command=$words[2]\n"
      "  shift words\n  (( CURRENT-- ))\n  case $command in\n    help) _describe command commands;;\n";
  for (const CLI::App* command : shown_commands(app)) {
    if (command->get_name() == "help") continue;
    script += "    " + command->get_name() + ")\n      _arguments \\\n";
    for (const CLI::Option* option : named_options(*command)) {
      const std::vector<std::string> known = choices(*option);
      for (const std::string& name : names_of(*option)) {
        std::string entry = "*" + name + "[" + text(option->get_description()) + "]";
        if (takes_value(*option)) entry += known.empty() ? ":value:_files" : ":value:(" + join(known, " ") + ")";
        script += "        " + shell_quoted(entry) + " \\\n";
      }
    }
    std::vector<std::string> known;
    for (const CLI::Option* option : command->get_options([](const CLI::Option* o) { return !o->nonpositional(); })) {
      known = choices(*option);
    }
    script += known.empty() ? "        '*:file:_files';;\n" : "        '*:word:(" + join(known, " ") + ")';;\n";
  }
  return script + "  esac\n}\n_glimpse \"$@\"\n";
}

std::string fish_completion(const CLI::App& app) {
  std::string script = "# fish completion for glimpse\n";
  for (const CLI::App* command : shown_commands(app)) {
    script += "complete -c glimpse -f -n __fish_use_subcommand -a " + command->get_name() + " -d " +
              shell_quoted(replaced(command->get_description(), "\\", "\\")) + "\n";
  }
  script += "complete -c glimpse -f -n '__fish_seen_subcommand_from help' -a " +
            shell_quoted(join(command_names(app), " ")) + "\n";
  for (const CLI::App* command : shown_commands(app)) {
    const std::string head = "complete -c glimpse -n '__fish_seen_subcommand_from " + command->get_name() + "'";
    for (const CLI::Option* option : named_options(*command)) {
      std::string line = head;
      for (const std::string& name : option->get_snames()) line += " -s " + name;
      for (const std::string& name : option->get_lnames()) line += " -l " + name;
      if (takes_value(*option)) {
        const std::vector<std::string> known = choices(*option);
        line += known.empty() ? " -r" : " -x -a " + shell_quoted(join(known, " "));
      }
      script += line + " -d " + shell_quoted(replaced(option->get_description(), "\\", "\\")) + "\n";
    }
  }
  return script;
}

namespace {

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::binary);
  out << text;
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
}

// Laid out as they are installed below share/.
void write_documents(const CLI::App& app, const std::filesystem::path& share) {
  write_file(share / "bash-completion/completions/glimpse", bash_completion(app));
  write_file(share / "zsh/site-functions/_glimpse", zsh_completion(app));
  write_file(share / "fish/vendor_completions.d/glimpse.fish", fish_completion(app));
  write_file(share / "man/man1/glimpse.1", program_page(app));
  for (const CLI::App* command : shown_commands(app)) {
    write_file(share / "man/man1" / ("glimpse-" + command->get_name() + ".1"), command_page(app, *command));
  }
}

}  // namespace

void add_documents(CLI::App& app, int* status) {
  CLI::App* const help = app.add_subcommand("help", "show the options of a command");
  help->add_option("command", "one of the commands");  // read by plain_arguments()
  auto shell = std::make_shared<std::string>(), directory = std::make_shared<std::string>();
  CLI::App* const completion = app.add_subcommand("completion", "print a completion script, for a shell to read");
  completion->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([&app, shell] {
    print_data(*shell == "bash" ? bash_completion(app) : *shell == "zsh" ? zsh_completion(app) : fish_completion(app));
  });
  CLI::App* const documents = app.add_subcommand("documents", "write manual pages and completions below a directory");
  documents->group("");  // for the build
  documents->add_option("directory", *directory, "as share/ of an installation")->required();
  documents->callback([&app, directory, status] {
    try {
      write_documents(app, *directory);
    } catch (const std::exception& error) {
      print_error(error.what());
      *status = kExitError;
    }
  });
}

}  // namespace glimpse::cli
