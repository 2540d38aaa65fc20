#include "engine/generate/speculative_decoder.h"

#include <algorithm>
#include <utility>

namespace glimpse {

SpeculativeDecoder::SpeculativeDecoder(std::unique_ptr<KvCache> cache, std::unique_ptr<TextDecoder> decoder,
                                       int64_t vocab_size, int64_t n_rows)
    : cache_(std::move(cache)),
      decoder_(std::move(decoder)),
      vocab_(static_cast<size_t>(vocab_size)),
      logits_(static_cast<size_t>(n_rows) * vocab_) {
  drafts_.reserve(static_cast<size_t>(n_rows));  // taking note of them must not fail once their slots are filled
}

Result<SpeculativeDecoder> SpeculativeDecoder::create(const std::shared_ptr<const Model>& model, Ops& ops,
                                                      const SessionSizes& sizes, KvElement kv_element) {
  GLIMPSE_ASSIGN(auto cache, KvCache::create(*model, ops, sizes.context, kv_element));
  GLIMPSE_ASSIGN(auto decoder, TextDecoder::create(model, ops, sizes.context, sizes.batch));
  return SpeculativeDecoder(std::move(cache), std::move(decoder), model->text().vocab_size, 1 + sizes.n_speculate);
}

Result<std::span<float>> SpeculativeDecoder::logits() {
  if (!has_logits()) return make_error(ErrorCode::kInvalidArgument, "there are no logits before the first prefill");
  if (!has_logits_) {
    GLIMPSE_TRY(decoder_->last_logits(*cache_, stepped_->first, stepped_->second, rows(0, 1)));
    has_logits_ = true;
    stepped_.reset();
  }
  return rows(n_taken_, 1);
}

void SpeculativeDecoder::drop_drafts() {
  cache_->truncate(n_past());
  drafts_.resize(n_taken_);
}

void SpeculativeDecoder::truncate(int64_t n) {
  drop_drafts();
  cache_->truncate(n);
  has_logits_ = false;
  stepped_.reset();
}

Status SpeculativeDecoder::append(const PassRows& input, const ProgressSink& progress) {
  truncate(n_past());
  drafts_.clear();
  n_taken_ = 0;
  GLIMPSE_TRY(decoder_->forward(*cache_, input, rows(0, 1), false, {}, progress));
  has_logits_ = true;
  return {};
}

Status SpeculativeDecoder::append_with_drafts(std::span<const TokenId> ids, std::span<const MropePosition> positions) {
  truncate(n_past());
  const Status done = decoder_->forward(*cache_, {ids, positions, {}}, rows(0, ids.size()), true, {}, {});
  if (!done.ok()) return append({ids.first(1), positions.first(1), {}}, {});
  drafts_.assign(ids.begin() + 1, ids.end());
  n_taken_ = 0;
  has_logits_ = true;
  return {};
}

Result<std::optional<TokenId>> SpeculativeDecoder::step(TokenId id, const MropePosition& position,
                                                        const DrawOptions& draw, std::span<const float> uniform) {
  drop_drafts();
  GLIMPSE_ASSIGN(const std::optional<TokenId> next, decoder_->step(*cache_, id, position, draw, uniform));
  if (!next) return next;
  drafts_.clear();
  n_taken_ = 0;
  has_logits_ = false;
  stepped_.emplace(id, position);
  return next;
}

bool SpeculativeDecoder::take_draft(TokenId id) {
  if (drafts().empty() || drafts().front() != id) return false;
  ++n_taken_;
  return true;
}

}  // namespace glimpse
