#include "tools/cli/sampling_choice.h"

#include <charconv>
#include <cstdlib>
#include <stdexcept>

#include "engine/capi/handles.h"
#include "tools/cli/option_kinds.h"

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
  add_value(command, "-n,--n-predict", c.params.max_tokens,
            "most tokens to answer with; -1: until the context is full");
  add_value(command, "--temp", c.params.temperature, "temperature; 0: greedy");
  add_value(command, "--top-k", c.params.top_k, "keep the k most likely tokens; 0: off");
  add_value(command, "--top-p", c.params.top_p, "keep the smallest set with this probability; 1: off");
  add_value(command, "--min-p", c.params.min_p, "drop tokens below this fraction of the best; 0: off");
  add_value(command, "--repeat-penalty", c.params.repetition_penalty, "divides the logits of seen tokens; 1: off");
  add_value(command, "--repeat-last-n", c.params.penalty_last_n, "tokens the penalties look back at; -1: all");
  add_value(command, "--presence-penalty", c.params.presence_penalty, "subtracted from the logits of seen tokens");
  add_value(command, "--frequency-penalty", c.params.frequency_penalty, "subtracted per occurrence");
  command.add_option("--logit-bias", c.logit_bias, "ID+BIAS or ID-BIAS, e.g. 151645-inf; may be given several times")
      ->allow_extra_args(false);
  add_value(command, "-s,--seed", c.params.seed, "seed of the sampler: the same draws the same answer")
      ->check(CLI::Validator(
          [](const std::string& text) {
            uint64_t seed = 0;
            const auto read = std::from_chars(text.data(), text.data() + text.size(), seed);
            const bool whole = read.ec == std::errc() && read.ptr == text.data() + text.size() && !text.empty();
            return whole ? std::string() : "'" + text + "': want a whole number from 0 to 18446744073709551615";
          },
          ""));
  command.add_option("--stop", c.stop, "end the answer before this text; may be given several times")
      ->allow_extra_args(false);
  command.add_flag("--special", c.params.render_special, "show control tokens such as <|box_start|> in the answer");
}

GenerateParams::GenerateParams(const SamplingChoice& c) : params(c.params), texts_(c.stop) {
  for (const std::string& text : texts_) stop_.push_back(text.c_str());
  for (const std::string& text : c.logit_bias) biases_.push_back(parse_logit_bias(text));
  params.stop = stop_.data();
  params.n_stop = stop_.size();
  params.logit_bias = biases_.data();
  params.n_logit_bias = biases_.size();
}

GenerateOptions generate_options(const SamplingChoice& c) {
  const GenerateParams given(c);
  return capi::generate_options(&given.params).value();
}

}  // namespace glimpse::cli
