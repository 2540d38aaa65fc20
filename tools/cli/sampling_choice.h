// How answers are drawn and where they end: the options that every command which answers shares.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/include/glimpse/glimpse.h"

namespace glimpse {
struct GenerateOptions;
}

namespace glimpse::cli {

struct SamplingChoice {
  SamplingChoice() { glimpse_generate_params_init(&params, sizeof params); }
  glimpse_generate_params params;  // numbers alone: texts and biases are below
  std::vector<std::string> stop, logit_bias;
};

void add_sampling_options(CLI::App& command, SamplingChoice& choice);

/// On the public interface: parameters with what they point to. Throws std::runtime_error for a --logit-bias that is
/// none.
class GenerateParams {
 public:
  explicit GenerateParams(const SamplingChoice& choice);
  GenerateParams(const GenerateParams&) = delete;
  GenerateParams& operator=(const GenerateParams&) = delete;
  glimpse_generate_params params;

 private:
  std::vector<std::string> texts_;
  std::vector<const char*> stop_;
  std::vector<glimpse_logit_bias> biases_;
};

/// The same behind it.
GenerateOptions generate_options(const SamplingChoice& choice);

}  // namespace glimpse::cli
