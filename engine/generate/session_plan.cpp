#include "engine/generate/session_plan.h"

#include <algorithm>

#include "engine/base/cpu_features.h"
#include "engine/generate/draft_model.h"
#include "engine/model/kv_pages.h"
#include "engine/model/text_decoder.h"

namespace glimpse {
namespace {

Status check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return make_error(ErrorCode::kInvalidArgument, "%s is %d: it must be in [%d, %d]", name, value, least, most);
}

// Of the draft model, once the sizes of the model that it drafts for are known.
Result<DraftSizes> draft_sizes(const Model& model, const SessionOptions& options, const SessionSizes& of_target) {
  GLIMPSE_TRY(check_range("n_draft", options.n_draft, 0, kMostDrafts));
  if (!(options.draft_min_probability >= 0 && options.draft_min_probability <= 1)) {
    return make_error(ErrorCode::kInvalidArgument, "draft_min_probability is %g: it must be in [0, 1]",
                      options.draft_min_probability);
  }
  DraftSizes sizes;
  sizes.n_tokens = std::min<int64_t>(options.n_draft, of_target.batch - 1);
  if (options.draft_model == nullptr || sizes.n_tokens == 0) return DraftSizes();
  sizes.model = options.draft_model;
  GLIMPSE_TRY(check_draft_model(model, *sizes.model));
  const int64_t trained = sizes.model->text().max_position_embeddings;
  sizes.context = trained > 0 ? std::min(trained, of_target.context) : of_target.context;
  if (sizes.context < of_target.context) {
    log(options.log, LogLevel::kWarning,
        format("the draft model was trained for a context of %d: it drafts for no longer texts", sizes.context));
  }
  sizes.pool_slots = of_target.pool_slots - (of_target.context - sizes.context);
  sizes.least_probability = options.draft_min_probability;
  return sizes;
}

}  // namespace

Result<SessionSizes> session_sizes(const Model& model, const SessionOptions& options) {
  constexpr int64_t kMostContext = int64_t{1} << 30;
  GLIMPSE_TRY(check_range("n_threads", options.n_threads, 0, 1024));
  GLIMPSE_TRY(check_range("context", options.context, 1, kMostContext));
  GLIMPSE_TRY(check_range("batch", options.batch, 1, kMostContext));
  GLIMPSE_TRY(check_range("pool_slots", options.pool_slots, 0, kMostContext));
  GLIMPSE_TRY(check_range("n_speculate", options.n_speculate, 0, kMostDrafts));

  SessionSizes sizes;
  sizes.n_threads = options.n_threads > 0 ? options.n_threads : available_cpus();
  sizes.context = options.context;
  const int64_t trained = model.text().max_position_embeddings;
  if (trained > 0 && sizes.context > trained) {
    log(options.log, LogLevel::kWarning,
        format("a context of %d was asked for; the model was trained for %d: using that", sizes.context, trained));
    sizes.context = trained;
  }
  sizes.batch = std::min(options.batch, sizes.context);
  sizes.pool_slots = std::max(options.pool_slots, sizes.context);
  sizes.n_speculate = std::min<int64_t>(options.n_speculate, sizes.batch - 1);
  GLIMPSE_ASSIGN(sizes.draft, draft_sizes(model, options, sizes));
  GLIMPSE_ASSIGN(static_cast<PictureSizes&>(sizes),
                 picture_sizes(options, model.has_vision() ? &model.vision() : nullptr, sizes.context));
  return sizes;
}

MemoryPlan session_memory(const Model& model, const Ops& ops, const SessionSizes& sizes, KvElement kv_element) {
  const TextConfig& text = model.text();
  MemoryPlan plan;
  plan.weights = model.weight_bytes();
  plan.kv_cache = KvPages::plan_bytes(model, ops, KvPages::pages_for(sizes.pool_slots), kv_element);
  const uint64_t logits = sizeof(float) * static_cast<uint64_t>((1 + sizes.most_drafts()) * text.vocab_size);
  const uint64_t tokens = 2 * sizeof(TokenId) * static_cast<uint64_t>(sizes.context + 1);  // cached and pending
  plan.decoder_scratch = tokens + TextDecoder::plan_bytes(model, ops, sizes.context, sizes.batch) + logits;
  if (sizes.draft.model != nullptr) DraftBench::plan(model, sizes, ops, kv_element, plan);
  if (model.has_vision()) add_pictures(model, ops, sizes, plan);
  return plan;
}

Result<MemoryPlan> plan_session(const Model& model, const SessionOptions& options) {
  GLIMPSE_ASSIGN(const SessionSizes sizes, session_sizes(model, options));
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model.make_ops(sizes.n_threads));
  return session_memory(model, *ops, sizes, options.kv_element);
}

}  // namespace glimpse
