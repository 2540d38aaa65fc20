// The passes of a session, driven one by one so that each can be timed: a picture to its embedding, a prompt to logits,
// a turn to its tokens. The same functions of the engine in the same order as in engine/generate/session.cpp.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/engine/timeline.h"
#include "engine/base/thread_team.h"
#include "engine/generate/image_budget.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model.h"
#include "engine/model/text_decoder.h"
#include "engine/model/vision_encoder.h"
#include "engine/runtime/profiled_ops.h"

namespace glimpse::bench {

struct EngineOptions {
  int n_threads = 1;
  int64_t batch = 512;
  KvElement kv_element = KvElement::kF16;
  ResizeLimits image_limits;
  /// kCount: passes cost no time and give no numbers, only records.
  ProfiledOps::Mode mode = ProfiledOps::Mode::kExecute;
  /// Decoder passes are recorded too; otherwise they run on undecorated operations.
  bool profile_text = false;
  ProgressSink progress;  // returning false cancels
};

/// The question of a turn and the room that it takes.
struct Turn {
  std::span<const std::byte> picture;  // an encoded file; empty: text alone
  std::string text;
  int64_t n_gen = 1;  // tokens drawn; the end of an answer does not end it
};

class Engine {
 public:
  /// Errors: those of Model::make_ops().
  static Result<std::unique_ptr<Engine>> create(std::shared_ptr<const Model> model, const EngineOptions& options);
  ~Engine();

  const Model& model() const { return *model_; }
  /// Of the backend: "cuda NVIDIA H100 80GB HBM3, sm_90".
  std::string describe() const { return ops_->describe(); }
  /// Where records go from now on; nullptr: nowhere.
  void record_to(std::vector<OpRecord>* records);

  /// An empty decoder for n_parallel conversations of so many positions each; 0: none. What is run is run for all of
  /// them, together.
  Status make_decoder(int64_t context, int64_t n_parallel = 1);
  void truncate(int64_t n);
  /// Appends rows, without logits.
  Status fill(std::span<const TokenId> ids);
  /// pp: one pass (in batches) over ids, with the last row's logits.
  Status run_prompt(std::span<const TokenId> ids, Timeline& timeline);
  /// tg: one pass per id, with logits. Where the backend records steps, and nobody records operations: steps from the
  /// first id, each of the token that the one before drew, greedily.
  Status run_tokens(std::span<const TokenId> ids, Timeline& timeline);

  /// What a picture of this size costs. Errors: kMismatch (no vision), kInvalidArgument.
  Result<ImageCost> image_cost(int64_t width, int64_t height) const;
  /// An encoder for so many patches; 0: none.
  Status make_encoder(int64_t n_patches);
  /// Decode, resize, patches, patch embedding, blocks, merger.
  Result<ImageEmbedding> encode(std::span<const std::byte> picture, Timeline& timeline);

  /// Rows of a turn's prompt when its picture has this cost (nullptr: no picture).
  Result<int64_t> prompt_length(const Turn& turn, const ImageCost* cost) const;
  /// The whole turn in an empty context, of one conversation; greedy. Returns the tokens.
  Result<std::vector<TokenId>> run_turn(const Turn& turn, Timeline& timeline);

 private:
  Engine(std::shared_ptr<const Model> model, const EngineOptions& options)
      : model_(std::move(model)), options_(options), team_(options.n_threads) {}
  Ops& text_ops();
  Status forward(std::span<const TokenId> ids, bool with_logits);
  Result<std::optional<TokenId>> step(TokenId id, const MropePosition& position, int64_t n_left);

  const std::shared_ptr<const Model> model_;
  const EngineOptions options_;
  ThreadTeam team_;  // for pixels
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<ProfiledOps> profiled_;
  std::vector<OpRecord>* records_ = nullptr;
  std::vector<std::unique_ptr<KvCache>> caches_;
  std::unique_ptr<TextDecoder> decoder_;
  std::unique_ptr<VisionEncoder> encoder_;
  int64_t encoder_patches_ = 0;
  std::vector<float> logits_;  // (conversations, vocab_size)
};

/// Digits, each of which is a token of its own, so that the text has n tokens. Errors: kUnsupported when this
/// tokenizer does not keep digits apart.
Result<std::string> text_of_tokens(const Tokenizer& tokenizer, int64_t n, uint64_t seed);

}  // namespace glimpse::bench
