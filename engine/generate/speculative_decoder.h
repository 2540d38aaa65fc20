// A session's cache, with the logits of the last slot. It may run draft tokens in the pass of a token that is known.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/generate/session_plan.h"
#include "engine/generate/workbench.h"
#include "engine/model/kv_cache.h"
#include "engine/model/text_decoder.h"

namespace glimpse {

/// Drafts wait behind the conversation: their slots are filled and their logits known, but they count (n_past(),
/// logits()) only once take_draft() was told that they were drawn. As a row's logits do not depend on the rows beside
/// it, they are the bits that a pass of its own would give. Whatever else enters or is forgotten drops the drafts.
class SpeculativeDecoder {
 public:
  /// A cache of its own on the bench; holds 1 + sizes.most_drafts() rows of logits. Errors: those of KvCache::create().
  static Result<SpeculativeDecoder> create(const Model& model, std::shared_ptr<Workbench> bench,
                                           const SessionSizes& sizes);

  /// Where the text stands, without drafts: pages that it shares, and its last logits. Lives no longer than the bench.
  struct Mark {
    std::unique_ptr<KvCache> cache;
    std::vector<float> logits;                                 // (vocab_size), or none
    std::optional<std::pair<TokenId, MropePosition>> stepped;  // as below
  };
  Result<Mark> mark();
  /// Errors: kDevice.
  Status go_to(const Mark& mark);
  KvCache& cache() { return *cache_; }
  /// There are no drafts from now on, and the logits of the last slot are these: (vocab_size), or none.
  void set_logits(std::span<const float> logits);

  /// Of the last slot, (vocab_size), for the sampler to change and restore. After a step they are computed again, which
  /// takes a pass. Errors: kInvalidArgument unless has_logits(); those of TextDecoder::last_logits().
  Result<std::span<float>> logits();
  /// Not before the first append(), nor after truncate() or an error.
  bool has_logits() const { return has_logits_ || stepped_.has_value(); }
  /// Slots of the conversation: without the drafts.
  int64_t n_past() const { return cache_->n_past() - static_cast<int64_t>(drafts().size()); }

  /// Rows of a prompt, or any others, without drafts. Errors: those of TextDecoder::forward(); n_past() is then as
  /// before.
  Status append(const PassRows& rows, const ProgressSink& progress);
  /// append() in two parts, for a pass of several texts: what goes into TextDecoder::run(), and that it went well.
  /// logits: those of the last row are wanted.
  TextDecoder::Input begin_append(const PassRows& rows, bool logits = true);
  void end_append(bool logits = true) { has_logits_ = logits; }
  /// The text token ids[0] and, after it, up to most_drafts() drafts. A pass that fails is tried again without drafts:
  /// what was only guessed is no error. Errors: as append().
  Status append_with_drafts(std::span<const TokenId> ids, std::span<const MropePosition> positions);
  /// A text token after which the backend draws: TextDecoder::step() takes it from here, and end_step() is told that it
  /// did. Drops drafts.
  TextDecoder::StepInput begin_step(TokenId id, const MropePosition& position, const DrawOptions& draw,
                                    std::span<const float> uniform);
  void end_step(const TextDecoder::StepInput& input);
  /// Drafts that wait.
  std::span<const TokenId> drafts() const { return std::span(drafts_).subspan(n_taken_); }
  /// Drafts of the last pass that were taken.
  size_t n_taken() const { return n_taken_; }
  /// When id is the next draft: it belongs to the conversation from now on, no pass is needed. Otherwise false, and
  /// nothing has changed.
  bool take_draft(TokenId id);
  void drop_drafts();

  /// Forgets everything after slot n (0 <= n <= n_past()), and the logits.
  void truncate(int64_t n);

 private:
  SpeculativeDecoder(std::shared_ptr<Workbench> bench, std::unique_ptr<KvCache> cache, int64_t vocab_size,
                     int64_t n_rows);
  TextDecoder& decoder() { return *bench_->decoder; }
  std::span<float> rows(size_t first, size_t n) { return std::span(logits_).subspan(first * vocab_, n * vocab_); }

  std::shared_ptr<Workbench> bench_;
  std::unique_ptr<KvCache> cache_;  // holds the drafts too
  size_t vocab_;
  std::vector<float> logits_;  // (1 + most_drafts(), vocab): of the token that was known, then of each draft
  bool has_logits_ = false;
  std::optional<std::pair<TokenId, MropePosition>> stepped_;  // the last slot, when a step filled it
  std::vector<TokenId> drafts_;                               // of the last pass
  size_t n_taken_ = 0;                                        // of them; also the row of logits that is the last slot's
};

}  // namespace glimpse
