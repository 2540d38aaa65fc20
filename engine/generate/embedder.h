// Texts and pictures to vectors, and a question and documents to scores: models with a pooling_type.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/generate/session_plan.h"
#include "engine/model/kv_pages.h"
#include "engine/model/model.h"
#include "engine/model/text_decoder.h"

namespace glimpse {

/// What one vector is made of: texts, which are data, and pictures, in their order.
using EmbedInput = std::vector<MessagePart>;

struct EmbedOptions {
  /// What the vector is for, in words. Text models: the input is a query, "Instruct: ...\nQuery:" stands before it;
  /// empty: nothing does, as for documents. Models that see pictures: the system text; empty: "Represent the user's
  /// input." Source: the model cards of Qwen3-Embedding and Qwen3-VL-Embedding.
  std::string instruction = {};
  bool normalize = true;                // to length 1
  std::optional<Pooling> pooling = {};  // nullopt: as the file says
};

struct RankOptions {
  /// What makes a document the right one; empty: that of the model card.
  std::string instruction = {};
};

/// A decoder that reads and does not speak. Used by one thread at a time. Pictures come encoded (PictureEncoder).
class Embedder {
 public:
  /// Allocates what plan_session() names for these options, but for pictures. Errors: those of plan_session(),
  /// kOutOfMemory.
  static Result<std::unique_ptr<Embedder>> create(std::shared_ptr<const Model> model, const SessionOptions& options);

  const Model& model() const { return *model_; }
  /// One vector, (hidden_size), per input; each is what it is alone, bit for bit. Errors: kUnsupported (a reranker, a
  /// model that says no pooling where none is given), kContextFull and others with the number of the input,
  /// kCancelled.
  Result<std::vector<std::vector<float>>> embed(std::span<const EmbedInput> inputs, const EmbedOptions& options,
                                                const ProgressSink& progress);
  /// For each document how probable it is that the model answers "yes": by the classifier of a reranker's file (pooling
  /// type "rank"), else by the logits of "yes" and "no". Errors: kUnsupported (a model that makes vectors), as above.
  Result<std::vector<float>> rank(const EmbedInput& query, std::span<const EmbedInput> documents,
                                  const RankOptions& options, const ProgressSink& progress);

  /// Tokens that the last call read, of all its inputs.
  int64_t n_tokens() const { return n_tokens_; }

  /// Rows for the decoder, and what it makes of them.
  struct Prompt {
    std::vector<TokenId> ids;
    std::vector<PicturePlace> pictures;
  };
  /// what: of the last row, or of all with all_rows.
  Result<std::vector<std::vector<float>>> run(std::span<const Prompt> prompts, DecoderOutput what, bool all_rows,
                                              const ProgressSink& progress);

 private:
  using Take = FunctionRef<Status(const std::vector<float>&)>;
  Status run_parts(std::span<const Prompt> prompts, const char* word, DecoderOutput what, bool all_rows,
                   const ProgressSink& progress, Take take);
  Embedder(std::shared_ptr<const Model> model, const SessionSizes& sizes) : model_(std::move(model)), sizes_(sizes) {}
  Result<Prompt> text_prompt(const EmbedInput& input, const EmbedOptions& options) const;
  Result<Prompt> chat_prompt(const std::vector<Message>& messages, const ChatOptions& options) const;
  Status add_end(Prompt& prompt) const;
  Result<float> score(const std::vector<float>& values) const;

  const std::shared_ptr<const Model> model_;
  const SessionSizes sizes_;
  int64_t n_tokens_ = 0;
  std::unique_ptr<Ops> ops_;
  std::shared_ptr<KvPages> pages_;
  std::unique_ptr<TextDecoder> decoder_;
};

}  // namespace glimpse
