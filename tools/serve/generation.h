// What a request's body asks of the sampler and of the answer, for every endpoint that generates.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/serve/engine.h"
#include "tools/serve/json_body.h"
#include "tools/serve/media.h"

namespace glimpse::serve {

/// What the server was started with, as far as reading bodies goes.
struct RequestPolicy {
  GenerateOptions defaults;  // what a body does not say
  bool has_seed = false;     // defaults.sampler.seed counts, too; otherwise such a seed is drawn
  MediaPolicy media;
  /// For the values of all bodies that are being read; of one at least.
  std::shared_ptr<MemoryBudget> values = std::make_shared<MemoryBudget>(uint64_t{256} << 20);
  PictureOptions pictures;  // the engine's
  int64_t max_messages = 1024;
  int64_t max_parts = 4096;  // of all messages together
  int64_t max_choices = 16;
  int64_t max_tokens = -1;  // no answer may be longer; -1: what the context holds
  int n_parallel = 1;       // requests that are under way at once
  double ping_s = 15;       // silence of a stream before it says that it waits; not above 0: it does not
  std::string model_name;
};

struct Generation {
  GenerateOptions options;
  int n_choices = 1;
  bool stream = false;
  bool include_usage = false;  // of a stream: a last chunk with the usage
  std::chrono::milliseconds ping{0};
  bool logprobs = false;
  int n_top_logprobs = 0;  // to show; options.n_top_logprobs is at least 1 where log-probabilities are wanted
  std::vector<std::string> warnings;  // of the body: told in the answer
};

/// Reads stop, seed, sampler, penalties, lengths, n, streaming. Log-probabilities differ by endpoint and are not read.
/// Throws ApiError.
Generation read_generation(Fields& body, const RequestPolicy& policy, const Tokenizer& tokenizer);
/// The options of choice `index`: those of the request, with a seed of its own.
GenerateOptions options_of_choice(const Generation& generation, int index);
/// Warns when another model was asked for than there is.
void check_model_name(Fields& body, const RequestPolicy& policy, std::vector<std::string>& warnings);

}  // namespace glimpse::serve
