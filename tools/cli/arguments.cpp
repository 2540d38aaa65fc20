#include "tools/cli/arguments.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>

#include "tools/cli/llama_flags.h"

namespace glimpse::cli {
namespace {

std::string without_dashes(const std::string& name) {
  return name.substr(std::min(name.find_first_not_of('-'), name.size()));
}

// Optimal string alignment: single letters inserted, left out, replaced, or two neighbours exchanged.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t k = 0; k <= b.size(); ++k) d[0][k] = k;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t k = 1; k <= b.size(); ++k) {
      d[i][k] = std::min({d[i - 1][k] + 1, d[i][k - 1] + 1, d[i - 1][k - 1] + (a[i - 1] == b[k - 1] ? 0 : 1)});
      if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
        d[i][k] = std::min(d[i][k], d[i - 2][k - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string found = nearest(word, known);
  return found.empty() ? "" : "; did you mean " + found + "?";
}

bool is_number(const std::string& text) {
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return end != text.c_str() && *end == '\0';
}

bool wants_number(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.rfind("INT", 0) == 0 || type.rfind("UINT", 0) == 0 || type.rfind("FLOAT", 0) == 0;
}

// -ngl counts layers in llama.cpp, and 99 has come to mean all of them.
std::string gpu_layers(const std::string& program, const std::string& value) {
  if (value == "all" || value == "auto" || value == "-1") return "all";
  if (is_number(value) && value.find_first_not_of("0123456789") == std::string::npos) {
    const long n = std::strtol(value.c_str(), nullptr, 10);
    if (n == 0) return "0";
    if (n >= 99) return "all";
    throw UsageError(program,
                     "--gpu-layers " + value + ": a model is on the GPU whole or not at all: 0, or 99 for all layers");
  }
  return value;
}

// Reads the arguments of one command.
class CommandArguments {
 public:
  CommandArguments(const CLI::App& command, std::string program) : command_(command), program_(std::move(program)) {}

  void read(const std::vector<std::string>& given, size_t first) {
    given_ = &given;
    for (next_ = first; next_ < given.size();) {
      const std::string& word = given[next_++];
      if (word == "--") {
        plain_.insert(plain_.end(), given.begin() + static_cast<ptrdiff_t>(next_) - 1, given.end());
        break;
      }
      if (word.size() > 1 && word[0] == '-' && !is_number(word)) {
        read_option(word);
      } else {
        plain_.push_back(word);
      }
    }
    // llama.cpp's users ask for the GPU by its layers alone.
    if (wants_gpu_ && !has_device_ && find("--device") != nullptr) plain_.insert(plain_.begin(), {"--device", "auto"});
  }

  std::vector<std::string> take() { return std::move(plain_); }

 private:
  const CLI::Option* find(const std::string& name) const {
    const std::vector<const CLI::Option*> options = named_options(command_);
    const auto found = std::find_if(options.begin(), options.end(),
                                    [&](const CLI::Option* option) { return option->check_name(name); });
    return found == options.end() ? nullptr : *found;
  }

  void read_option(const std::string& word) {
    const size_t equals = word.rfind("--", 0) == 0 ? word.find('=') : std::string::npos;
    const std::string name = word.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = word.substr(equals + 1);
    if (const CLI::Option* option = find(name)) {
      add(*option, name, value);
    } else if (const LlamaFlag* flag = find_llama_flag(name)) {
      read_llama_flag(name, *flag, value);
    } else if (const CLI::Option* bundle = first_letter(word)) {
      add(*bundle, word.substr(0, 2), word.substr(2));
    } else {
      refuse_unknown(name);
    }
  }

  // -n5: an option of one letter with its value. Not where the rest cannot be one: -nfoo.
  const CLI::Option* first_letter(const std::string& word) const {
    if (word.size() < 3 || word[1] == '-') return nullptr;
    const CLI::Option* option = find(word.substr(0, 2));
    if (option == nullptr || !takes_value(*option)) return nullptr;
    return wants_number(*option) && std::isdigit(static_cast<unsigned char>(word[2])) == 0 && word[2] != '-' ? nullptr
                                                                                                             : option;
  }

  // The value that follows; nothing at the end, where CLI11 says what is missing. An option's name is none: who forgot
  // a value would otherwise lose the next option too.
  std::optional<std::string> following_value(const CLI::Option& option, const std::string& name) {
    if (next_ >= given_->size()) return std::nullopt;
    const std::string& value = (*given_)[next_];
    if (value.size() > 1 && value[0] == '-' && find(value) != nullptr) {
      throw UsageError(program_, name + " needs a value, and " + value + " is an option (--" +
                                     (option.get_lnames().empty() ? name : option.get_lnames()[0]) + "=" + value +
                                     " makes it a value)");
    }
    ++next_;
    return value;
  }

  void add(const CLI::Option& option, const std::string& name, std::optional<std::string> value) {
    if (!takes_value(option)) {
      plain_.push_back(value ? name + "=" + *value : name);
      return;
    }
    if (!value) value = following_value(option, name);
    if (option.check_name("--device")) has_device_ = true;
    if (value && option.check_name("--gpu-layers")) {
      value = gpu_layers(program_, *value);
      wants_gpu_ = *value != "0";
    }
    const bool looks_like_an_option = value && value->size() > 1 && (*value)[0] == '-';
    if (looks_like_an_option && !option.get_lnames().empty()) {
      plain_.push_back("--" + option.get_lnames()[0] + "=" + *value);
      return;
    }
    plain_.push_back(name);
    if (value) plain_.push_back(*value);
  }

  void read_llama_flag(const std::string& name, const LlamaFlag& flag, const std::optional<std::string>& value) {
    switch (flag.kind) {
      case LlamaFlag::Kind::kOurs: {
        const CLI::Option* option = find(flag.text);
        if (option == nullptr) break;
        add(*option, flag.text, value);
        return;
      }
      case LlamaFlag::Kind::kNothing:
        if (find("--model") == nullptr) break;
        if (flag.may_be_off) read_switch(name, flag, value);
        return;
      case LlamaFlag::Kind::kRefused:
        throw UsageError(program_, name + " of llama.cpp: " + flag.text);
    }
    refuse_unknown(name);
  }

  // "-fa", "-fa on", "-fa 1": what is so anyway.
  void read_switch(const std::string& name, const LlamaFlag& flag, std::optional<std::string> value) {
    if (!value && next_ < given_->size()) {
      const std::string& following = (*given_)[next_];
      if (following == "on" || following == "off" || following == "auto" || following == "0" || following == "1") {
        value = following;
        ++next_;
      }
    }
    if (value == "off" || value == "0") throw UsageError(program_, name + " " + *value + " of llama.cpp: " + flag.text);
  }

  [[noreturn]] void refuse_unknown(const std::string& name) const {
    std::vector<std::string> known;
    for (const CLI::Option* option : named_options(command_)) {
      for (const std::string& each : option->get_lnames()) known.push_back("--" + each);
    }
    const size_t equals = name.find('=');  // of an option of one letter
    const bool has_value = equals == 2 && find(name.substr(0, 2)) != nullptr;
    throw UsageError(program_, "there is no option " + name +
                                   (has_value ? "; did you mean " + name.substr(0, 2) + " " + name.substr(3) + "?"
                                              : did_you_mean(name, known)));
  }

  const CLI::App& command_;
  const std::string program_;
  const std::vector<std::string>* given_ = nullptr;
  size_t next_ = 0;
  std::vector<std::string> plain_;
  bool wants_gpu_ = false, has_device_ = false;
};

}  // namespace

std::vector<const CLI::App*> shown_commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

std::vector<const CLI::Option*> named_options(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return option->nonpositional(); });
}

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  const std::string wanted = without_dashes(word);
  std::string best;
  size_t fewest = wanted.size() / 3 + 1;
  for (const std::string& each : known) {
    const std::string name = without_dashes(each);
    // A beginning is as good as a slip of one letter.
    const size_t d = wanted.size() >= 3 && name.rfind(wanted, 0) == 0 ? std::min<size_t>(1, name.size() - wanted.size())
                                                                      : distance(wanted, name);
    if (d >= fewest) continue;
    fewest = d;
    best = each;
  }
  return best;
}

std::vector<std::string> plain_arguments(const CLI::App& app, const std::vector<std::string>& given) {
  const std::string program = app.get_name();
  std::vector<std::string> known;
  for (const CLI::App* command : shown_commands(app)) known.push_back(command->get_name());
  const auto find = [&](const std::string& name) -> const CLI::App* {
    const auto all = app.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; });
    return all.empty() ? nullptr : all[0];
  };
  if (given.empty()) return given;
  if (given[0].empty() || given[0][0] == '-') {
    for (const CLI::Option* option : named_options(app)) {
      if (option->check_name(given[0])) return given;
    }
    throw UsageError(program, "'" + given[0] + "' comes before the command: " + program + " COMMAND [OPTIONS]");
  }
  if (given[0] == "help") {
    if (given.size() == 1) return {"--help"};
    return plain_arguments(app, {given[1], "--help"});
  }
  const CLI::App* command = find(given[0]);
  if (command == nullptr) {
    for (const CLI::Option* option : named_options(app)) {
      for (const std::string& each : option->get_lnames()) known.push_back("--" + each);
    }
    throw UsageError(program, "there is no command '" + given[0] + "'" + did_you_mean(given[0], known));
  }
  CommandArguments arguments(*command, program + " " + command->get_name());
  arguments.read(given, 1);
  std::vector<std::string> plain = arguments.take();
  plain.insert(plain.begin(), given[0]);
  return plain;
}

std::string in_plain_words(const CLI::App& command, const CLI::ParseError& error) {
  const std::string said = error.what();
  const std::string name = said.substr(0, said.find(':'));
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    if (said.find(" missing") != std::string::npos) return name + " needs a value";
    if (said.find("At Most 1 required") != std::string::npos) return name + " is given more than once";
  }
  constexpr std::string_view kConversion = "Could not convert: ";
  if (said.rfind(kConversion, 0) == 0) {
    const std::string rest = said.substr(kConversion.size());
    const size_t equals = rest.find(" = ");
    const std::string option = rest.substr(0, equals);
    const CLI::Option* const found = command.get_option_no_throw(option);
    const bool is_real = found != nullptr && found->get_type_name().rfind("FLOAT", 0) == 0;
    if (equals != std::string::npos) {
      const std::string value = rest.substr(equals + 3);
      return option + " '" + value + "': want " + (is_real ? "a number" : "a whole number, of a size that it may have");
    }
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    const std::string words = said.substr(std::min(said.find(": "), said.size() - 2) + 2);
    const bool asks = command.get_option_no_throw("--image") != nullptr;
    return "too many arguments: " + words +
           (asks ? " (a question of several words stands in quotes, a picture behind --image)" : "");
  }
  const size_t is_required = said.rfind(" is required");
  if (is_required != std::string::npos && said.find(" and ") < is_required) {
    return said.substr(0, is_required) + " are required";
  }
  return said;
}

}  // namespace glimpse::cli
