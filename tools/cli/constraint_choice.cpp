#include "tools/cli/constraint_choice.h"

#include <stdexcept>

#include "tools/prompt/prompt.h"

namespace glimpse::cli {

void add_constraint_options(CLI::App& command, ConstraintChoice& c) {
  const std::vector<CLI::Option*> options = {
      command.add_option("--json-schema", c.json_schema,
                         "the answer is JSON of this schema: a file, the schema itself ('{..}'), or boxes: a list of "
                         "bbox_2d and label"),
      command.add_flag("--json-object", c.json_object, "the answer is a JSON object"),
      command.add_option("--regex", c.regex, "the answer as a whole is what this regular expression matches"),
      command.add_option("--choice", c.choices, "the answer is this text, or that of another --choice")
          ->allow_extra_args(false),
      command.add_option("--grammar", c.grammar,
                         "the answer is a text of this GBNF grammar, as llama.cpp has it: a file, or itself")};
  for (CLI::Option* const one : options) {
    for (CLI::Option* const other : options) {
      if (one != other) one->excludes(other);
    }
  }
}

std::string read_notation(const ConstraintChoice& c) {
  const std::string& given = c.json_schema.empty() ? c.grammar : c.json_schema;
  const size_t first = given.find_first_not_of(" \t\r\n");
  const bool is_itself = c.json_schema.empty()
                             ? given.find("::=") != std::string::npos
                             : given == "boxes" || (first != std::string::npos && given[first] == '{');
  if (given.empty() || is_itself) return given;
  auto text = prompt::read_text(given);
  if (!text.ok()) throw std::runtime_error(text.error().message);
  return std::move(text).value();
}

std::optional<api::Constraint> constraint_of(const ConstraintChoice& c, const std::string& notation,
                                             const api::Model& model) {
  if (!c.json_schema.empty()) return api::Constraint::json_schema(model, notation);
  if (!c.grammar.empty()) return api::Constraint::gbnf(model, notation);
  if (c.json_object) return api::Constraint::json_object(model);
  if (!c.regex.empty()) return api::Constraint::regex(model, c.regex);
  if (!c.choices.empty()) return api::Constraint::choice(model, c.choices);
  return std::nullopt;
}

Result<Constraint::Ptr> compile_constraint(const ConstraintChoice& c, const std::string& notation,
                                           const Tokenizer& tokenizer) {
  if (!c.json_schema.empty()) return Constraint::compile_json_schema(tokenizer, notation);
  if (!c.grammar.empty()) return Constraint::compile_gbnf(tokenizer, notation);
  if (c.json_object) return Constraint::compile_json_object(tokenizer);
  if (!c.regex.empty()) return Constraint::compile_regex(tokenizer, c.regex);
  if (!c.choices.empty()) return Constraint::compile_choice(tokenizer, c.choices);
  return Constraint::Ptr();
}

}  // namespace glimpse::cli
