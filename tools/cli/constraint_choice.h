// What answers may be: the options that every command which answers shares.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/constrain/constraint.h"
#include "engine/include/glimpse/glimpse.hpp"

namespace glimpse::cli {

struct ConstraintChoice {
  std::string json_schema, regex, grammar;  // at most one of all of them is given
  std::vector<std::string> choices;
  bool json_object = false;
};

void add_constraint_options(CLI::App& command, ConstraintChoice& choice);

/// The schema or grammar, from its file or as it stands there; empty for the others. Throws std::runtime_error for a
/// file that cannot be read.
std::string read_notation(const ConstraintChoice& choice);

/// On the public interface, with what read_notation() gave; nullopt: none is asked for. Throws api::Error.
std::optional<api::Constraint> constraint_of(const ConstraintChoice& choice, const std::string& notation,
                                             const api::Model& model);
/// The same behind it; nullptr: none is asked for.
Result<Constraint::Ptr> compile_constraint(const ConstraintChoice& choice, const std::string& notation,
                                           const Tokenizer& tokenizer);

}  // namespace glimpse::cli
