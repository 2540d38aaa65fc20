#include "tools/cli/draft_choice.h"

namespace glimpse::cli {

void add_draft_options(CLI::App& command, DraftChoice& c) {
  command
      .add_option("--speculate", c.n_speculate,
                  "draft up to this many tokens (at most 15) from earlier text, checked in one pass; the answer is the "
                  "same; 0: off")
      ->check(CLI::Range(0, 15))
      ->capture_default_str();
  CLI::Option* const model = command.add_option(
      "--draft-model", c.model,
      "smaller text model of the same vocabulary, GGUF, that drafts where --speculate has nothing (also -md); the "
      "answer is the same; it sees no pictures");
  command.add_option("--draft-tokens", c.n_draft, "most tokens of its drafts (also --draft-max)")
      ->check(CLI::Range(1, 15))
      ->capture_default_str()
      ->needs(model);
  command
      .add_option("--draft-min-p", c.min_probability,
                  "end a draft when it is less likely than this that all of it is right; 0: by the sizes of the models")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->needs(model);
}

std::optional<api::Model> load_draft_model(const DraftChoice& c, const ModelChoice& of_target,
                                           const api::Progress& progress) {
  if (c.model.empty()) return std::nullopt;
  glimpse_model_params params = model_params(of_target);
  params.model_path = c.model.c_str();
  params.mmproj_path = nullptr;
  return api::Model(params, progress);
}

void set_drafts(const DraftChoice& c, const std::optional<api::Model>& model, glimpse_session_params& params) {
  params.n_speculate = c.n_speculate;
  params.n_draft = c.n_draft;
  params.draft_min_probability = c.min_probability;
  if (model) params.draft_model = model->get();
}

}  // namespace glimpse::cli
