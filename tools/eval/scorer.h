// Runs a model over sequences whose tokens are given (teacher forcing) and hands out the logits that count.
#pragma once

#include <memory>
#include <span>

#include "engine/base/function_ref.h"
#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model.h"
#include "engine/model/text_decoder.h"
#include "tools/eval/kl_base.h"

namespace glimpse::eval {

/// Where a sequence's picture is: a run of pad tokens.
struct PictureRows {
  int64_t position = 0;
  const ImageEmbedding* embedding = nullptr;  // nullptr: no picture
};

class Scorer {
 public:
  /// context: tokens of the longest sequence. ops: outlives the scorer.
  static Result<Scorer> create(std::shared_ptr<const Model> model, Ops& ops, int64_t context, KvElement kv_element);

  /// Calls on_row(i, logits) for scored rows i = 0 .. n_scored - 1, in order. Errors: those of TextDecoder::forward()
  /// and of on_row.
  Status run(const Sequence& sequence, const PictureRows& picture,
             FunctionRef<Status(int64_t row, std::span<const float> logits)> on_row, const ProgressSink& progress);

 private:
  std::shared_ptr<const Model> model_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<TextDecoder> decoder_;
  std::vector<float> logits_;
};

}  // namespace glimpse::eval
