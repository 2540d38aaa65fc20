// Drafts by a second, smaller model: what it would say next is what the session's model may say, too.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/log.h"
#include "engine/generate/memory_plan.h"
#include "engine/generate/sampler.h"
#include "engine/generate/session_plan.h"
#include "engine/model/kv_pages.h"
#include "engine/model/text_decoder.h"
#include "engine/model/weights.h"

namespace glimpse {

/// That `draft` can draft for `target`: both answer, run on the same kind of context, and mean the same by each token;
/// what only one of them has are fillers, unused tokens. Errors: kUnsupported, kMismatch says what differs.
Status check_draft_model(const Model& target, const Model& draft);

/// What a token of the draft costs, the target's being 1: bytes of weights that are read for it.
double draft_cost(const TextWeights& target, const TextWeights& draft);

/// What sessions on a bench share of a draft model: scratch, and the pool of its pages.
struct DraftBench {
  /// On the ops of the target's passes, as one of the two works at a time. Errors: kOutOfMemory, kInvalidArgument.
  static Result<std::unique_ptr<DraftBench>> create(const Model& target, const SessionSizes& sizes, Ops& ops,
                                                    KvElement kv_element);
  /// The same memory, added to what the target needs.
  static void plan(const Model& target, const SessionSizes& sizes, const Ops& ops, KvElement kv_element,
                   MemoryPlan& plan);

  DraftSizes sizes;
  double cost = 0;
  std::shared_ptr<KvPages> pages;
  std::unique_ptr<TextDecoder> decoder;
  std::vector<float> logits;  // (vocab_size of the target or, when that is more, of the draft)
  size_t n_target = 0;        // vocab_size of the target
  int64_t n_text = 0;         // tokens of the longest text of a session
};

/// A session's drafter. Its cache is a memo of the text that it was last asked about: a text that differs, because the
/// session went back, was forked or loaded, is cut to what both have in common, and the rest is run. So there is
/// nothing to undo, and nothing to save.
class Drafter {
 public:
  /// bench outlives it. Errors: those of KvCache::create().
  static Result<Drafter> create(DraftBench& bench);

  /// How the session draws: the same sampler, with the next of its random numbers, draws from the draft's logits, so
  /// that equal logits give equal tokens whatever the temperature.
  struct Draw {
    const Sampler& sampler;
    const std::optional<ConstraintState>& constraint;
    bool thinks = false;  // the constraint holds later
  };
  /// Up to n tokens that may follow `text`, in which `skipped` are the pads of pictures. Fewer, or none, where they are
  /// not worth their time, where the text is longer than the draft's context, and where a pass fails: what is only a
  /// guess is no error.
  std::vector<TokenId> propose(std::span<const TokenId> text, std::span<const TokenId> skipped, int64_t n,
                               const Draw& draw, const ProgressSink& progress);
  /// What became of them: the first n_taken were drawn, and when `refused` the one behind those was not.
  void learn(size_t n_taken, bool refused);
  /// The text of another session on the bench, in the same pages, as far as there is room.
  void follow(const Drafter& other);
  /// Gives its pages back.
  void forget();

 private:
  Drafter(DraftBench& bench, std::unique_ptr<KvCache> cache);
  void read(std::span<const TokenId> text, std::span<const TokenId> skipped);
  bool run(const ProgressSink& progress);
  double probability_of_best() const;
  double least_probability() const;
  std::span<float> target_logits() const;

  DraftBench* bench_;
  std::unique_ptr<KvCache> cache_;
  std::vector<TokenId> text_;  // without pictures; its first cache_->n_past() tokens are in the cache
  Sampler sampler_;
  std::vector<double> proposed_;  // how likely each of its last drafts was, as far as it can tell
  double found_ = 4, hoped_ = 4;  // of the last drafts: taken, and expected to be; they begin as if that were right
  double first_ = 1;              // how often the first draft of a pass was taken lately
  int n_rests_ = 0;               // passes without drafts, while that is too rare
};

}  // namespace glimpse
