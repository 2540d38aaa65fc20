#include "tools/serve/generation.h"

#include <cmath>
#include <limits>
#include <optional>
#include <random>

namespace glimpse::serve {
namespace {

constexpr int64_t kLargest = int64_t{1} << 53;  // integers that every JSON writer spells exactly
constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr size_t kMostStops = 64;
constexpr size_t kMostBiases = 4096;
constexpr size_t kMostBiasText = 1024;  // bytes of a text whose tokens are meant

// An empty one, which forms with nothing in the field send, ends no answer: it is told of and left out.
std::vector<std::string> read_stops(Fields& body, std::vector<std::string>& warnings) {
  const Json* const stop = body.find("stop");
  if (stop == nullptr) return {};
  const std::string path = body.path("stop");
  std::vector<std::string> stops;
  const auto add = [&](const Json& text, const std::string& at) {
    stops.push_back(text.get<std::string>());
    if (!stops.back().empty()) return;
    stops.pop_back();
    warnings.push_back(at + " is empty: it ends no answer");
  };
  if (stop->is_string()) {
    add(*stop, path);
    return stops;
  }
  if (!stop->is_array()) refuse_field(path, "want a string or an array of strings");
  if (stop->size() > kMostStops)
    refuse_field(path, format("has %d strings; at most %d are allowed", stop->size(), kMostStops));
  for (size_t i = 0; i < stop->size(); ++i) {
    const std::string at = format("%s[%d]", path, i);
    if (!(*stop)[i].is_string()) refuse_field(at, "want a string");
    add((*stop)[i], at);
  }
  return stops;
}

TokenId read_token_id(const Json& value, const std::string& path) {
  const auto id = value.get<int64_t>();
  if (id < 0 || id > std::numeric_limits<TokenId>::max()) refuse_field(path, "is no token's id");
  return static_cast<TokenId>(id);
}

// "151645" is an id; any other text is its tokens.
std::vector<TokenId> tokens_of_key(const std::string& key, const std::string& path, const Tokenizer& tokenizer) {
  if (!key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos) {
    return {static_cast<TokenId>(std::stol(key))};
  }
  if (key.size() > kMostBiasText) {
    refuse_field(path, format("a text of %d bytes; at most %d are taken", key.size(), kMostBiasText));
  }
  const auto ids = tokenizer.encode(key, {.parse_special = true, .normalize_nfc = true});
  if (!ids.ok()) refuse_field(path, ids.error().message);
  if (ids.value().empty()) refuse_field(path, "keys are token ids, or texts");
  return ids.value();
}

float read_bias(const Json& value, const std::string& path) {
  if (value.is_boolean() && !value.get<bool>()) return kNever;  // as llama.cpp's clients say it
  if (!value.is_number()) refuse_field(path, "want a number, or false for never");
  const auto bias = value.get<double>();
  if (!(std::abs(bias) <= 1e6)) refuse_field(path, "want a number from -1e6 to 1e6");
  return static_cast<float>(bias);
}

// {"15043": 1.5} as OpenAI has it, [[15043, 1.5], [" the", false]] as llama.cpp: the tokens of a text, each.
std::vector<std::pair<TokenId, float>> read_logit_bias(Fields& body, const Tokenizer& tokenizer) {
  const Json* const field = body.find("logit_bias");
  std::vector<std::pair<TokenId, float>> biases;
  if (field == nullptr) return biases;
  const std::string path = body.path("logit_bias");
  if (!field->is_object() && !field->is_array()) refuse_field(path, "want an object of token ids and biases");
  if (field->size() > kMostBiases)
    refuse_field(path, format("has %d entries; at most %d are allowed", field->size(), kMostBiases));
  const auto add = [&](const std::vector<TokenId>& ids, float bias) {
    for (const TokenId id : ids) biases.emplace_back(id, bias);
    if (biases.size() > kMostBiases) refuse_field(path, format("is for more than %d tokens", kMostBiases));
  };
  if (field->is_object()) {
    for (const auto& entry : field->items()) {
      const std::string at = format("%s.%s", path, entry.key().substr(0, 64));
      add(tokens_of_key(entry.key(), at, tokenizer), read_bias(entry.value(), at));
    }
    return biases;
  }
  for (size_t i = 0; i < field->size(); ++i) {
    const Json& pair = (*field)[i];
    const std::string at = format("%s[%d]", path, i);
    const bool is_pair = pair.is_array() && pair.size() == 2 && (pair[0].is_number_integer() || pair[0].is_string());
    if (!is_pair) refuse_field(at, "want [token id or text, bias]");
    add(pair[0].is_string() ? tokens_of_key(pair[0].get<std::string>(), at, tokenizer)
                            : std::vector<TokenId>{read_token_id(pair[0], at)},
        read_bias(pair[1], at));
  }
  return biases;
}

// OpenAI's two names and llama.cpp's; the last two are the same thing.
int64_t read_max_tokens(Fields& body, int64_t otherwise) {
  int64_t n = otherwise;
  for (const char* const name : {"n_predict", "max_tokens", "max_completion_tokens"}) {
    n = body.integer(name, -1, kLargest, n);
  }
  return n;
}

// Any integer of 64 bits, as OpenAI has it; -1, as llama.cpp's clients say it, is any.
std::optional<uint64_t> read_seed(Fields& body) {
  const Json* const given = body.find("seed");
  if (given != nullptr && given->is_number_unsigned()) return given->get<uint64_t>();
  if (given != nullptr && given->is_number_integer()) {
    if (*given == -1) return std::nullopt;
    return static_cast<uint64_t>(given->get<int64_t>());
  }
  const int64_t seed = body.integer("seed", -kLargest, kLargest, -1);
  return seed == -1 ? std::nullopt : std::optional(static_cast<uint64_t>(seed));
}

uint64_t random_seed() {
  std::random_device device;
  return uint64_t{device()} << 21 ^ device();
}

void read_sampler(Fields& body, const RequestPolicy& policy, const Tokenizer& tokenizer, SamplerOptions& sampler) {
  constexpr double kHuge = 1e9;
  const auto real = [&](const char* name, double least, double most, float& value) {
    value = static_cast<float>(body.number(name, least, most, value));
  };
  real("temperature", 0, kHuge, sampler.temperature);
  real("top_p", 0, 1, sampler.top_p);
  real("min_p", 0, 1, sampler.min_p);
  real("repeat_penalty", 1e-3, kHuge, sampler.repetition_penalty);
  real("repetition_penalty", 1e-3, kHuge, sampler.repetition_penalty);
  real("presence_penalty", -kHuge, kHuge, sampler.presence_penalty);
  real("frequency_penalty", -kHuge, kHuge, sampler.frequency_penalty);
  constexpr int64_t kInt32 = std::numeric_limits<int32_t>::max();
  sampler.top_k = static_cast<int32_t>(std::max<int64_t>(0, body.integer("top_k", -1, kInt32, sampler.top_k)));
  sampler.penalty_last_n = static_cast<int32_t>(body.integer("repeat_last_n", -1, kInt32, sampler.penalty_last_n));
  if (const std::optional<uint64_t> seed = read_seed(body)) {
    sampler.seed = *seed;
  } else if (!policy.has_seed) {
    sampler.seed = random_seed();
  }
  std::vector<std::pair<TokenId, float>> biases = read_logit_bias(body, tokenizer);
  if (!biases.empty()) sampler.logit_bias = std::move(biases);
  if (!body.flag("ignore_eos", false)) return;
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    if (tokenizer.is_end_of_generation(id)) sampler.logit_bias.emplace_back(id, kNever);
  }
}

void read_stream_options(Fields& body, double ping_s, Generation& generation) {
  generation.stream = body.flag("stream", false);
  const double ping = std::max(0.0, body.number("sse_ping_interval", -1, 86400, ping_s));  // as llama.cpp has it
  generation.ping = std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(ping));
  const Json* const field = body.find("stream_options");
  if (field == nullptr) return;
  Fields options(*field, body.path("stream_options"));
  generation.include_usage = options.flag("include_usage", false);
  options.ignore({"include_obfuscation", "continuous_usage_stats"});
  options.report_unknown(generation.warnings);
}

}  // namespace

Generation read_generation(Fields& body, const RequestPolicy& policy, const Tokenizer& tokenizer) {
  Generation generation;
  generation.options = policy.defaults;
  read_sampler(body, policy, tokenizer, generation.options.sampler);
  generation.options.max_tokens = read_max_tokens(body, policy.defaults.max_tokens);
  if (policy.max_tokens >= 0 &&
      (generation.options.max_tokens < 0 || generation.options.max_tokens > policy.max_tokens)) {
    generation.options.max_tokens = policy.max_tokens;
  }
  generation.options.stop = read_stops(body, generation.warnings);
  generation.options.render_special = !body.flag("skip_special_tokens", !policy.defaults.render_special);
  generation.n_choices = static_cast<int>(body.integer("n", 1, policy.max_choices, 1));
  read_stream_options(body, policy.ping_s, generation);
  body.ignore({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "cache_prompt",
               "timings_per_token", "prompt_cache_retention", "id_slot", "n_keep"});
  return generation;
}

GenerateOptions options_of_choice(const Generation& generation, int index) {
  GenerateOptions options = generation.options;
  options.sampler.seed += static_cast<uint64_t>(index);
  return options;
}

void check_model_name(Fields& body, const RequestPolicy& policy, std::vector<std::string>& warnings) {
  const std::string asked = body.text("model", policy.model_name);
  if (asked == policy.model_name || asked.empty()) return;
  warnings.push_back(format("there is no model \"%s\" here: \"%s\" answers", asked.substr(0, 64), policy.model_name));
}

}  // namespace glimpse::serve
