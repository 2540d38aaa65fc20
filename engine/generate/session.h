// A conversation about pictures: cache, positions, sampler, streaming text. Several sessions may share one model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/generate/sampler.h"
#include "engine/model/model.h"
#include "loaders/image/image.h"
#include "tokenizer/chat.h"

namespace glimpse {

struct SessionOptions {
  int n_threads = 0;                 // 0: available_cpus()
  int64_t context = 4096;            // cache positions; capped by the model's context_length with a log line
  int64_t batch = 512;               // rows per prefill pass
  ResizeLimits image_limits;         // min_pixels, max_pixels
  int64_t min_image_tokens = 0;      // overrides image_limits when not 0
  int64_t max_image_tokens = 0;
  KvElement kv_element = KvElement::kBf16;
  LogSink log;
};

/// Memory that a session will use, before any of it is allocated.
struct MemoryPlan {
  uint64_t weights = 0;    // of the model, shared
  uint64_t kv_cache = 0;
  uint64_t decoder_scratch = 0;
  uint64_t vision_scratch = 0;
  uint64_t total() const { return weights + kv_cache + decoder_scratch + vision_scratch; }
};
Result<MemoryPlan> plan_session(const Model& model, const SessionOptions& options);

/// One piece of user input: text, a picture (pixels) or an embedding made before.
struct MessagePart {
  std::string text;
  std::shared_ptr<const ImageEmbedding> image;  // when set, text is ignored
};
struct Message {
  std::string role;   // "system", "user", "assistant"
  std::vector<MessagePart> parts;
};

struct GenerateOptions {
  SamplerOptions sampler;
  int64_t max_tokens = 512;            // -1: until the context is full
  std::vector<std::string> stop;       // matched on the text, across token borders; not part of the answer
  int n_top_logprobs = 0;              // per token
  bool render_special = false;         // show <|box_start|> and the like
  /// Called with each piece of complete, valid UTF-8; returning false cancels (the answer so far is kept).
  std::function<bool(std::string_view text)> on_text;
  /// Called during prefill with the fraction done; returning false cancels.
  ProgressSink progress;
};

enum class FinishReason { kStop, kStopString, kMaxTokens, kContextFull, kCancelled };
const char* finish_reason_name(FinishReason reason);  // "stop", "stop_string", "max_tokens", "context_full", "cancelled"

struct Timings {                        // milliseconds
  double image_decode = 0, image_resize = 0, image_encode = 0;
  double prefill = 0, decode = 0;
  int64_t n_image_tokens = 0, n_prompt_tokens = 0, n_cached_tokens = 0, n_generated_tokens = 0;
};

struct Answer {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<SampledToken> logprobs;   // when n_top_logprobs > 0
  FinishReason reason = FinishReason::kStop;
  Timings timings;
};

class Session {
 public:
  ~Session();
  /// Allocates everything that plan_session() names, and nothing later. Errors: kOutOfMemory with the plan's sizes.
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model, const SessionOptions& options);

  /// Resizes and encodes a picture. Errors: kInvalidArgument (aspect ratio), kTooLarge, kMismatch (model without vision).
  Result<std::shared_ptr<const ImageEmbedding>> encode_image(const Image& image, Timings* timings,
                                                             const ProgressSink& progress);

  /// Appends messages to the conversation and prefills them with the generation prompt; earlier turns stay in the cache.
  /// Errors: kContextFull says how many tokens the prompt has and how many fit; the session is as before the call.
  Status prefill(const std::vector<Message>& messages, const ProgressSink& progress);
  /// The next token of the answer under the sampler of begin_answer(); for those who step by themselves.
  Status begin_answer(const GenerateOptions& options);
  struct Step { SampledToken token; std::string text; bool finished = false; FinishReason reason = FinishReason::kStop; };
  Result<Step> step();
  /// prefill + begin_answer + step until finished.
  Result<Answer> generate(const std::vector<Message>& messages, const GenerateOptions& options);

  /// Logits of the last position, (vocab_size); valid after prefill or step.
  std::span<const float> logits() const;
  int64_t n_past() const;
  /// Forgets the conversation.
  void reset();
  const Timings& timings() const;

 private:
  Session();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace glimpse
