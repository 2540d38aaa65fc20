#include "engine/generate/speculative_decoder.h"

#include <algorithm>
#include <utility>

namespace glimpse {

SpeculativeDecoder::SpeculativeDecoder(std::unique_ptr<TextDecoder> decoder, int64_t vocab_size, int64_t n_rows)
    : decoder_(std::move(decoder)),
      vocab_(static_cast<size_t>(vocab_size)),
      logits_(static_cast<size_t>(n_rows) * vocab_) {}

Result<SpeculativeDecoder> SpeculativeDecoder::create(const std::shared_ptr<const Model>& model, Ops& ops,
                                                      const SessionSizes& sizes, KvElement kv_element) {
  GLIMPSE_ASSIGN(auto decoder, TextDecoder::create(model, ops, sizes.context, sizes.batch, kv_element));
  return SpeculativeDecoder(std::move(decoder), model->text().vocab_size, 1 + sizes.n_speculate);
}

std::span<float> SpeculativeDecoder::logits() {
  if (!has_logits_ && stepped_) {
    const auto [id, position] = *std::exchange(stepped_, std::nullopt);
    has_logits_ = decoder_->last_logits(id, position, rows(0, 1)).ok();
  }
  if (!has_logits_) return {};
  return rows(n_taken_, 1);
}

void SpeculativeDecoder::drop_drafts() {
  drafts_.resize(n_taken_);
  decoder_->truncate(n_past_);
}

void SpeculativeDecoder::truncate(int64_t n) {
  n_past_ = std::min(n, n_past_);
  drop_drafts();
  has_logits_ = false;
  stepped_.reset();
}

Status SpeculativeDecoder::append(const TextDecoder::Input& input, const ProgressSink& progress) {
  truncate(n_past_);
  drafts_.clear();
  n_taken_ = 0;
  GLIMPSE_TRY(decoder_->forward(input, rows(0, 1), false, {}, progress));
  n_past_ = decoder_->n_past();
  has_logits_ = true;
  return {};
}

Status SpeculativeDecoder::append_with_drafts(std::span<const TokenId> ids, std::span<const MropePosition> positions) {
  truncate(n_past_);
  const Status done = decoder_->forward({ids, positions, {}}, rows(0, ids.size()), true, {}, {});
  if (!done.ok()) return append({ids.first(1), positions.first(1), {}}, {});
  drafts_.assign(ids.begin() + 1, ids.end());
  n_taken_ = 0;
  ++n_past_;
  has_logits_ = true;
  return {};
}

Result<std::optional<TokenId>> SpeculativeDecoder::step(TokenId id, const MropePosition& position,
                                                        const DrawOptions& draw, std::span<const float> uniform) {
  drop_drafts();
  GLIMPSE_ASSIGN(const std::optional<TokenId> next, decoder_->step(id, position, draw, uniform));
  if (!next) return next;
  drafts_.clear();
  n_taken_ = 0;
  ++n_past_;
  has_logits_ = false;
  stepped_.emplace(id, position);
  return next;
}

bool SpeculativeDecoder::take_draft(TokenId id) {
  if (drafts().empty() || drafts().front() != id) return false;
  ++n_taken_;
  ++n_past_;
  return true;
}

}  // namespace glimpse
