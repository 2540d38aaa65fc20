#include "tools/eval/scorer.h"

#include <algorithm>

namespace glimpse::eval {
namespace {

// Rows whose logits are in memory at once: 64 rows of a vocabulary of 151936 are 39 MB. Results do not depend on it.
constexpr int64_t kRowsAtOnce = 64;
constexpr int64_t kBatch = 512;

}  // namespace

Result<Scorer> Scorer::create(std::shared_ptr<const Model> model, Ops& ops, int64_t context, KvElement kv_element) {
  Scorer scorer;
  scorer.model_ = model;
  GLIMPSE_ASSIGN(scorer.cache_, KvCache::create(*model, ops, context, kv_element));
  GLIMPSE_ASSIGN(scorer.decoder_, TextDecoder::create(model, ops, context, std::min(context, kBatch)));
  scorer.logits_.resize(static_cast<size_t>(kRowsAtOnce * model->text().vocab_size));
  return scorer;
}

Status Scorer::run(const Sequence& sequence, const PictureRows& picture,
                   FunctionRef<Status(int64_t row, std::span<const float> logits)> on_row,
                   const ProgressSink& progress) {
  const int64_t n_vocab = model_->text().vocab_size;
  PassInput input;
  const PicturePlace place{picture.position, picture.embedding};
  GLIMPSE_TRY(input.append(sequence.ids, {&place, picture.embedding != nullptr ? size_t{1} : size_t{0}}));
  const PassRows rows = input.rows();

  cache_->truncate(0);
  const int64_t end = sequence.first + sequence.n_scored;
  int64_t row = 0;
  while (row < end) {
    // Rows before the first scored one need no logits; the picture is among them.
    const bool scored = row >= sequence.first;
    const int64_t count = scored ? std::min(kRowsAtOnce, end - row) : sequence.first - row;
    const auto at = static_cast<size_t>(row), length = static_cast<size_t>(count);
    const PassRows part{rows.ids.subspan(at, length), rows.positions.subspan(at, length),
                        scored ? std::span<const float>() : rows.embeddings};
    const std::span<float> out =
        scored ? std::span(logits_).first(static_cast<size_t>(count * n_vocab)) : std::span<float>();
    GLIMPSE_TRY(decoder_->forward(*cache_, part, out, true, {}, progress));
    for (int64_t i = 0; scored && i < count; ++i) {
      GLIMPSE_TRY(on_row(row - sequence.first + i,
                         out.subspan(static_cast<size_t>(i * n_vocab), static_cast<size_t>(n_vocab))));
    }
    row += count;
  }
  return {};
}

}  // namespace glimpse::eval
