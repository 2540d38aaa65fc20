#include "tools/cli/sampling_choice.h"

#include <cstdlib>
#include <stdexcept>

#include "engine/generate/session.h"

namespace glimpse::cli {
namespace {

// "151645-inf", "42+1.5"
glimpse_logit_bias parse_logit_bias(const std::string& text) {
  const size_t sign = text.find_first_of("+-");
  char* end = nullptr;
  if (sign != std::string::npos && sign > 0) {
    const long id = std::strtol(text.c_str(), &end, 10);
    if (end == text.c_str() + sign) {
      const float bias = std::strtof(text.c_str() + sign, &end);
      if (*end == '\0') return {static_cast<int32_t>(id), bias};
    }
  }
  throw std::runtime_error("--logit-bias '" + text + "': want ID+BIAS or ID-BIAS");
}

}  // namespace

void add_sampling_options(CLI::App& command, SamplingChoice& c) {
  command.add_option("-n,--n-predict", c.n_predict, "most tokens to answer with; -1: until the context is full")
      ->capture_default_str();
  command.add_option("--temp", c.temperature, "temperature; 0: greedy")->capture_default_str();
  command.add_option("--top-k", c.top_k, "keep the k most likely tokens; 0: off")->capture_default_str();
  command.add_option("--top-p", c.top_p, "keep the smallest set with this probability; 1: off")->capture_default_str();
  command.add_option("--min-p", c.min_p, "drop tokens below this fraction of the best; 0: off")->capture_default_str();
  command.add_option("--repeat-penalty", c.repeat_penalty, "divides the logits of seen tokens; 1: off")
      ->capture_default_str();
  command.add_option("--repeat-last-n", c.repeat_last_n, "tokens the penalties look back at; -1: all")
      ->capture_default_str();
  command.add_option("--presence-penalty", c.presence_penalty, "subtracted from the logits of seen tokens")
      ->capture_default_str();
  command.add_option("--frequency-penalty", c.frequency_penalty, "subtracted per occurrence")->capture_default_str();
  command.add_option("--logit-bias", c.logit_bias, "ID+BIAS or ID-BIAS, e.g. 151645-inf; may be given several times")
      ->allow_extra_args(false);
  command.add_option("-s,--seed", c.seed, "seed of the sampler")->capture_default_str();
  command.add_option("--stop", c.stop, "end the answer before this text; may be given several times")
      ->allow_extra_args(false);
  command.add_flag("--special", c.special, "show control tokens such as <|box_start|> in the answer");
}

GenerateParams::GenerateParams(const SamplingChoice& c) : texts_(c.stop) {
  glimpse_generate_params_init(&params);
  params.max_tokens = c.n_predict;
  params.temperature = c.temperature;
  params.top_k = c.top_k;
  params.top_p = c.top_p;
  params.min_p = c.min_p;
  params.repetition_penalty = c.repeat_penalty;
  params.presence_penalty = c.presence_penalty;
  params.frequency_penalty = c.frequency_penalty;
  params.penalty_last_n = c.repeat_last_n;
  params.seed = c.seed;
  params.render_special = c.special ? 1 : 0;
  for (const std::string& text : texts_) stop_.push_back(text.c_str());
  for (const std::string& text : c.logit_bias) biases_.push_back(parse_logit_bias(text));
  params.stop = stop_.data();
  params.n_stop = stop_.size();
  params.logit_bias = biases_.data();
  params.n_logit_bias = biases_.size();
}

GenerateOptions generate_options(const SamplingChoice& c) {
  GenerateOptions options;
  options.sampler.temperature = c.temperature;
  options.sampler.top_k = c.top_k;
  options.sampler.top_p = c.top_p;
  options.sampler.min_p = c.min_p;
  options.sampler.repetition_penalty = c.repeat_penalty;
  options.sampler.presence_penalty = c.presence_penalty;
  options.sampler.frequency_penalty = c.frequency_penalty;
  options.sampler.penalty_last_n = c.repeat_last_n;
  options.sampler.seed = c.seed;
  for (const std::string& text : c.logit_bias) {
    const glimpse_logit_bias bias = parse_logit_bias(text);
    options.sampler.logit_bias.emplace_back(bias.id, bias.bias);
  }
  options.max_tokens = c.n_predict;
  options.stop = c.stop;
  options.render_special = c.special;
  return options;
}

}  // namespace glimpse::cli
