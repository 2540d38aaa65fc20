#include "engine/generate/speculative_decoder.h"

#include <algorithm>
#include <utility>

namespace glimpse {

SpeculativeDecoder::SpeculativeDecoder(std::shared_ptr<Workbench> bench, std::unique_ptr<KvCache> cache,
                                       int64_t vocab_size, int64_t n_rows)
    : bench_(std::move(bench)),
      cache_(std::move(cache)),
      vocab_(static_cast<size_t>(vocab_size)),
      logits_(static_cast<size_t>(n_rows) * vocab_) {
  drafts_.reserve(static_cast<size_t>(n_rows));  // taking note of them must not fail once their slots are filled
}

Result<SpeculativeDecoder> SpeculativeDecoder::create(const Model& model, std::shared_ptr<Workbench> bench,
                                                      const SessionSizes& sizes) {
  GLIMPSE_ASSIGN(auto cache, KvCache::create(bench->pages, sizes.context));
  return SpeculativeDecoder(std::move(bench), std::move(cache), model.text().vocab_size, 1 + sizes.most_drafts());
}

Result<SpeculativeDecoder::Mark> SpeculativeDecoder::mark() {
  Mark mark;
  GLIMPSE_ASSIGN(mark.cache, cache_->fork());
  mark.cache->truncate(n_past());
  if (has_logits_) {
    const std::span<const float> last = rows(n_taken_, 1);
    mark.logits.assign(last.begin(), last.end());
  }
  mark.stepped = stepped_;
  return mark;
}

Status SpeculativeDecoder::go_to(const Mark& mark) {
  GLIMPSE_TRY(cache_->become(*mark.cache));
  set_logits(mark.logits);
  stepped_ = mark.stepped;
  return {};
}

void SpeculativeDecoder::set_logits(std::span<const float> logits) {
  drafts_.clear();
  n_taken_ = 0;
  stepped_.reset();
  has_logits_ = !logits.empty();
  std::copy(logits.begin(), logits.end(), logits_.begin());
}

Result<std::span<float>> SpeculativeDecoder::logits() {
  if (!has_logits()) return make_error(ErrorCode::kInvalidArgument, "there are no logits before the first prefill");
  if (!has_logits_) {
    GLIMPSE_TRY(decoder().last_logits(*cache_, stepped_->first, stepped_->second, rows(0, 1)));
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

TextDecoder::Input SpeculativeDecoder::begin_append(const PassRows& input, bool logits) {
  truncate(n_past());
  drafts_.clear();
  n_taken_ = 0;
  return {cache_.get(), input, logits ? rows(0, 1) : std::span<float>(), false};
}

Status SpeculativeDecoder::append(const PassRows& input, const ProgressSink& progress) {
  const TextDecoder::Input one = begin_append(input);
  GLIMPSE_TRY(decoder().run(std::span(&one, 1), {}, progress));
  end_append();
  return {};
}

Status SpeculativeDecoder::append_with_drafts(std::span<const TokenId> ids, std::span<const MropePosition> positions) {
  truncate(n_past());
  const Status done = decoder().forward(*cache_, {ids, positions, {}}, rows(0, ids.size()), true, {}, {});
  if (!done.ok()) return append({ids.first(1), positions.first(1), {}}, {});
  drafts_.assign(ids.begin() + 1, ids.end());
  n_taken_ = 0;
  has_logits_ = true;
  return {};
}

TextDecoder::StepInput SpeculativeDecoder::begin_step(TokenId id, const MropePosition& position,
                                                      const DrawOptions& draw, std::span<const float> uniform) {
  drop_drafts();
  return {cache_.get(), id, position, draw, uniform};
}

void SpeculativeDecoder::end_step(const TextDecoder::StepInput& input) {
  drafts_.clear();
  n_taken_ = 0;
  has_logits_ = false;
  stepped_.emplace(input.id, input.position);
}

bool SpeculativeDecoder::take_draft(TokenId id) {
  if (drafts().empty() || drafts().front() != id) return false;
  ++n_taken_;
  return true;
}

}  // namespace glimpse
