// Where drafts of an answer come from: options of the commands that make one at a time.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/include/glimpse/glimpse.hpp"
#include "tools/cli/model_choice.h"

namespace glimpse::cli {

struct DraftChoice {
  int32_t n_speculate = 0, n_draft = 8;
  std::string model;
  float min_probability = 0;
};

void add_draft_options(CLI::App& command, DraftChoice& choice);
/// Loaded as the model that it drafts for; nullopt: there is none.
std::optional<api::Model> load_draft_model(const DraftChoice& choice, const ModelChoice& of_target,
                                           const api::Progress& progress);
/// The parameters point to the draft model.
void set_drafts(const DraftChoice& choice, const std::optional<api::Model>& model, glimpse_session_params& params);

}  // namespace glimpse::cli
