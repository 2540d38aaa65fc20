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
  int32_t n_predict = 512, top_k = 0, repeat_last_n = -1;
  float temperature = 0, top_p = 1, min_p = 0, repeat_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;
  std::vector<std::string> stop, logit_bias;
  bool special = false;
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
