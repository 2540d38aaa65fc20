// The decoder's forward pass: rows of one or several texts to keys, values and logits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model.h"
#include "engine/model/pass_input.h"
#include "engine/model/tap.h"
#include "engine/runtime/ops.h"

namespace glimpse {

/// What is wanted of a row.
enum class DecoderOutput {
  kLogits,
  kHidden,  // the last hidden state, normed: what the head is multiplied with
  kLabels,  // of the classifier
};
/// Floats of it.
int64_t output_width(const TextConfig& config, DecoderOutput output);

/// Scratch memory of the decoder's passes, sized once. It belongs to no text: the caches do.
class TextDecoder {
 public:
  ~TextDecoder();
  /// batch: most rows of one pass. context: slots of the longest cache, which recorded steps need to know. ops: that
  /// the caches were made on. Errors: kInvalidArgument, kOutOfMemory.
  static Result<std::unique_ptr<TextDecoder>> create(std::shared_ptr<const Model> model, Ops& ops, int64_t context,
                                                     int64_t batch);
  static uint64_t plan_bytes(const Model& model, const Ops& ops, int64_t context, int64_t batch);

  /// Rows that go into one cache, and what is wanted of them.
  struct Input {
    KvCache* cache = nullptr;
    PassRows rows;
    std::span<float> logits;  // empty, or (width) for the last row, or (rows, width): output_width()
    bool all_logits = false;  // of all rows
    DecoderOutput output = DecoderOutput::kLogits;
  };
  /// Appends the rows of each input to its cache: any number, in passes of at most `batch` rows of all texts together.
  /// A row's results do not depend on the other inputs. Errors: kContextFull (says how many slots are left),
  /// kInvalidArgument (an id outside the vocabulary, a cache twice), kNumeric, kCancelled (progress returned false).
  /// After an error all caches are as before.
  Status run(std::span<const Input> inputs, const TapSink& tap, const ProgressSink& progress);
  /// The same for one.
  Status forward(KvCache& cache, const PassRows& rows, std::span<float> logits, bool all_logits, const TapSink& tap,
                 const ProgressSink& progress);

  /// A text token that goes into a cache, and how the one that follows is drawn. uniform: numbers in [0, 1], the luck
  /// of this draw and of the next ones; as many steps are begun at most, so none past the last slot of the context or
  /// the end of an answer is when the caller gives no more.
  struct StepInput {
    KvCache* cache = nullptr;
    TokenId id = 0;
    MropePosition position;
    DrawOptions draw;
    std::span<const float> uniform;
  };
  /// Appends the tokens to their caches and lets the backend draw those that follow, as run() and draws in one; further
  /// steps may be begun before they are asked for. tokens: one per input. False: the backend cannot, some logits were
  /// not finite, or several caches come together for the first time; nothing was appended, and run() does it or has
  /// the error. Errors: kContextFull, kInvalidArgument, kOutOfMemory, kDevice.
  Result<bool> step(std::span<const StepInput> inputs, std::span<TokenId> tokens);
  /// The logits of the last slot, into which `id` went at `position`, computed again: (vocab_size). Errors: kNumeric,
  /// kDevice, kInvalidArgument when no slot is filled.
  Status last_logits(KvCache& cache, TokenId id, const MropePosition& position, std::span<float> logits);

 private:
  TextDecoder();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace glimpse
