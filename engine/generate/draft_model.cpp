#include "engine/generate/draft_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <typeinfo>
#include <utility>

#include "engine/model/kv_cache.h"

namespace glimpse {
namespace {

constexpr double kMostHoped = 64;  // drafts that the correction of the draft's probabilities remembers
constexpr double kLately = 8;      // passes that `first_` remembers
constexpr int kRest = 8;           // of so many passes one is drafted for, where drafts are refused too often

std::string quoted(std::string_view bytes) {
  constexpr size_t kMost = 40;
  return "'" + std::string(bytes.substr(0, kMost)) + (bytes.size() > kMost ? "...'" : "'");
}

bool is_used(const Tokenizer& tokenizer, TokenId id) {
  return id < tokenizer.size() && tokenizer.type(id) != TokenType::kUnused;
}

// Tokens that one of the two has no use for do no harm, unless texts are made of them.
Status check_same_token(const Tokenizer& target, const Tokenizer& draft, TokenId id) {
  const bool here = is_used(target, id), there = is_used(draft, id);
  const auto text = [&](const Tokenizer& of, bool used) {
    return used ? quoted(of.token_bytes(id, true)) : std::string("unused");
  };
  bool same = target.token_bytes(id, true) == draft.token_bytes(id, true);
  if (here != there) same = (here ? target : draft).type(id) == TokenType::kControl;
  if ((!here && !there) || same) return {};
  return make_error(ErrorCode::kMismatch,
                    "the draft model has another vocabulary: its token %d is %s, the model's is %s", id,
                    text(draft, there), text(target, here));
}

// Of matrices; a row of the embedding is next to nothing.
uint64_t bytes_per_token(const TextWeights& w) {
  const auto bytes = [](const auto&... linear) {
    return ((linear.weight == nullptr ? 0 : linear.weight->n_bytes) + ...);
  };
  uint64_t sum = bytes(w.output);
  for (const DecoderLayerWeights& layer : w.layers) {
    sum +=
        bytes(layer.qkv.q, layer.qkv.k, layer.qkv.v, layer.attn_output, layer.ffn_gate, layer.ffn_up, layer.ffn_down);
    if (!layer.experts) continue;
    const ExpertWeights& e = *layer.experts;
    sum += bytes(e.router, e.shared_router, e.shared_gate, e.shared_up, e.shared_down);
    sum += static_cast<uint64_t>(e.n_used) * bytes(e.gate[0], e.up[0], e.down[0]);
  }
  return sum;
}

int64_t n_logits(const Model& target, const Model& draft) {
  return std::max(target.text().vocab_size, draft.text().vocab_size);
}

}  // namespace

Status check_draft_model(const Model& target, const Model& draft) {
  if (draft.text().pooling != Pooling::kNone) {
    return make_error(ErrorCode::kUnsupported, "the draft model has pooling_type %s: it makes no answers",
                      pooling_name(draft.text().pooling));
  }
  // Weights are packed for the kind of context that a model makes.
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> of_target, target.make_ops(1));
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> of_draft, draft.make_ops(1));
  const Ops &a = *of_target, &b = *of_draft;
  if (target.device() != draft.device() || typeid(a) != typeid(b)) {
    return make_error(ErrorCode::kMismatch, "the draft model was loaded for another device or backend than the model");
  }
  const int64_t n = std::max(target.tokenizer().size(), draft.tokenizer().size());
  for (TokenId id = 0; id < n; ++id) GLIMPSE_TRY(check_same_token(target.tokenizer(), draft.tokenizer(), id));
  return {};
}

double draft_cost(const TextWeights& target, const TextWeights& draft) {
  return static_cast<double>(bytes_per_token(draft)) / static_cast<double>(bytes_per_token(target));
}

Result<std::unique_ptr<DraftBench>> DraftBench::create(const Model& target, const SessionSizes& sizes, Ops& ops,
                                                       KvElement kv_element) {
  auto bench = std::make_unique<DraftBench>();
  DraftBench& b = *bench;
  b.sizes = sizes.draft;
  const Model& draft = *b.sizes.model;
  b.cost = draft_cost(target.text_weights(), draft.text_weights());
  GLIMPSE_ASSIGN(b.pages, KvPages::create(draft, ops, KvPages::pages_for(b.sizes.pool_slots), kv_element));
  GLIMPSE_ASSIGN(b.decoder, TextDecoder::create(b.sizes.model, ops, b.sizes.context, sizes.batch));
  // What the draft has no logit for it does not draw.
  b.logits.assign(static_cast<size_t>(n_logits(target, draft)), -std::numeric_limits<float>::infinity());
  b.n_target = static_cast<size_t>(target.text().vocab_size);
  b.n_text = sizes.context;
  return bench;
}

void DraftBench::plan(const Model& target, const SessionSizes& sizes, const Ops& ops, KvElement kv_element,
                      MemoryPlan& plan) {
  const DraftSizes& of = sizes.draft;
  plan.weights += of.model->weight_bytes();
  plan.kv_cache += KvPages::plan_bytes(*of.model, ops, KvPages::pages_for(of.pool_slots), kv_element);
  const uint64_t text = sizeof(TokenId) * static_cast<uint64_t>(sizes.context + kMostDrafts);
  plan.decoder_scratch += text + TextDecoder::plan_bytes(*of.model, ops, of.context, sizes.batch) +
                          sizeof(float) * static_cast<uint64_t>(n_logits(target, *of.model));
}

Drafter::Drafter(DraftBench& bench, std::unique_ptr<KvCache> cache) : bench_(&bench), cache_(std::move(cache)) {
  text_.reserve(static_cast<size_t>(bench.n_text + kMostDrafts));
  proposed_.reserve(kMostDrafts);
}

Result<Drafter> Drafter::create(DraftBench& bench) {
  GLIMPSE_ASSIGN(auto cache, KvCache::create(bench.pages, bench.sizes.context));
  return Drafter(bench, std::move(cache));
}

// text_ is this text from now on, and the cache holds the beginning that both had in common. The last token is run in
// any case, for the logits behind it.
void Drafter::read(std::span<const TokenId> text, std::span<const TokenId> skipped) {
  const int64_t vocab_size = bench_->sizes.model->text().vocab_size;
  size_t n = 0, n_same = text_.size();
  for (const TokenId id : text) {
    if (id >= vocab_size || std::find(skipped.begin(), skipped.end(), id) != skipped.end()) continue;
    if (n < n_same && text_[n] != id) n_same = n;
    if (n < n_same) {
      ++n;
      continue;
    }
    text_.resize(n++);
    text_.push_back(id);
  }
  text_.resize(n);
  const auto n_known = static_cast<int64_t>(std::min(n_same, n > 0 ? n - 1 : 0));
  cache_->truncate(std::min(cache_->n_past(), n_known));
}

// What of the text is not in the cache goes in; the bench's logits are then those behind its last token.
bool Drafter::run(const ProgressSink& progress) {
  const auto n_past = static_cast<size_t>(cache_->n_past());
  const std::span<const TokenId> ids = std::span(text_).subspan(n_past);
  std::vector<MropePosition> positions;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto at = static_cast<int32_t>(n_past + i);
    positions.push_back({at, at, at});
  }
  const auto n_own = static_cast<size_t>(bench_->sizes.model->text().vocab_size);
  return bench_->decoder
      ->forward(*cache_, {ids, positions, {}}, std::span(bench_->logits).first(n_own), false, {}, progress)
      .ok();
}

// Of the likeliest token, as softmax has it.
double Drafter::probability_of_best() const {
  constexpr float kDeepest = 16;  // what is so far below it together has less than 2 % of it
  const std::span<const float> logits = target_logits();
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) {
    if (x > best - kDeepest) sum += std::exp(static_cast<double>(x - best));
  }
  return 1 / sum;
}

std::span<float> Drafter::target_logits() const {
  return std::span(bench_->logits).first(bench_->n_target);
}

// Another draft costs `cost` of a pass of the target and spares one if all before it are drawn and it is, too. That is
// worth it while it is likelier than the cost times the tokens that a pass brings on average.
double Drafter::least_probability() const {
  constexpr double kTokensPerPass = 1.5;
  if (bench_->sizes.least_probability > 0) return static_cast<double>(bench_->sizes.least_probability);
  return std::min(0.95, kTokensPerPass * bench_->cost);
}

std::vector<TokenId> Drafter::propose(std::span<const TokenId> text, std::span<const TokenId> skipped, int64_t n,
                                      const Draw& draw, const ProgressSink& progress) {
  proposed_.clear();
  std::vector<TokenId> drafts;
  if (first_ < bench_->cost && ++n_rests_ < kRest) return drafts;
  n_rests_ = 0;
  read(text, skipped);
  n = std::min({n, bench_->sizes.n_tokens, bench_->sizes.context - static_cast<int64_t>(text_.size())});
  if (n < 1 || text_.empty()) return drafts;
  sampler_.follow(draw.sampler);
  std::optional<ConstraintState> constraint = draw.constraint;
  const Tokenizer& tokenizer = bench_->sizes.model->tokenizer();
  bool thinks = draw.thinks;
  double all_drawn = 1;
  while (static_cast<int64_t>(drafts.size()) < n && all_drawn >= least_probability() && run(progress)) {
    ConstraintState* const holds = constraint && !thinks ? &*constraint : nullptr;
    const Result<SampledToken> drawn = sampler_.sample(target_logits(), 0, holds);
    if (!drawn.ok() || tokenizer.is_end_of_generation(drawn->id)) break;
    const TokenId id = drawn->id;
    if (holds != nullptr && !holds->accept(id).ok()) break;
    if (thinks) thinks = id != tokenizer.find("</think>");
    sampler_.accept(id);
    drafts.push_back(id);
    proposed_.push_back(probability_of_best());
    text_.push_back(id);
    all_drawn *= std::min(1.0, found_ / hoped_ * proposed_.back());
  }
  return drafts;
}

void Drafter::learn(size_t n_taken, bool refused) {
  const size_t n_known = std::min(n_taken + (refused ? 1 : 0), proposed_.size());
  for (size_t i = 0; i < n_known; ++i) {
    hoped_ += proposed_[i];
    found_ += i < n_taken ? 1 : 0;
  }
  if (n_known > 0) first_ += ((n_taken > 0 ? 1 : 0) - first_) / kLately;
  if (hoped_ > kMostHoped) {
    hoped_ /= 2;
    found_ /= 2;
  }
  proposed_.clear();
}

void Drafter::follow(const Drafter& other) {
  forget();
  if (!cache_->become(*other.cache_).ok()) return cache_->truncate(0);
  text_.assign(other.text_.begin(), other.text_.end());
  found_ = other.found_;
  hoped_ = other.hoped_;
  first_ = other.first_;
}

void Drafter::forget() {
  cache_->truncate(0);
  text_.clear();
  proposed_.clear();
}

}  // namespace glimpse
