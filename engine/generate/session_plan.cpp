#include "engine/generate/session_plan.h"

#include <algorithm>

#include "engine/base/checked.h"
#include "engine/base/cpu_features.h"
#include "engine/generate/image_budget.h"
#include "engine/model/kv_cache.h"
#include "engine/model/text_decoder.h"
#include "engine/model/vision_encoder.h"

namespace glimpse {
namespace {

Status check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return make_error(ErrorCode::kInvalidArgument, "%s is %d: it must be in [%d, %d]", name, value, least, most);
}

Status check_source_limits(const ImageLimits& limits) {
  if (limits.max_pixels < 1) return make_error(ErrorCode::kInvalidArgument, "image_source_max_pixels is 0");
  if (limits.max_memory < 1) return make_error(ErrorCode::kInvalidArgument, "image_source_max_memory is 0");
  return check_range("image_source_max_scans", limits.max_scans, 1, 1 << 20);
}

double mib(uint64_t n_bytes) {
  return static_cast<double>(n_bytes) / (1 << 20);
}

}  // namespace

Result<SessionSizes> session_sizes(const Model& model, const SessionOptions& options) {
  constexpr int64_t kMostContext = int64_t{1} << 30;
  GLIMPSE_TRY(check_range("n_threads", options.n_threads, 0, 1024));
  GLIMPSE_TRY(check_range("context", options.context, 1, kMostContext));
  GLIMPSE_TRY(check_range("batch", options.batch, 1, kMostContext));
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
  sizes.n_speculate = std::min<int64_t>(options.n_speculate, sizes.batch - 1);
  sizes.source_limits = options.source_limits;
  GLIMPSE_TRY(check_source_limits(sizes.source_limits));
  if (!model.has_vision()) return sizes;

  const VisionConfig& vision = model.vision();
  GLIMPSE_ASSIGN(sizes.image_limits,
                 effective_limits(options.image_limits, options.min_image_tokens, options.max_image_tokens, vision));
  const int64_t factor = vision.resize_factor(), merge = vision.patch.merge_size;
  sizes.max_image_tokens = std::min(sizes.image_limits.max_pixels / (factor * factor), sizes.context);
  sizes.max_image_patches = sizes.max_image_tokens * merge * merge;
  return sizes;
}

MemoryPlan session_memory(const Model& model, const Ops& ops, const SessionSizes& sizes, KvElement kv_element) {
  const TextConfig& text = model.text();
  MemoryPlan plan;
  plan.weights = model.weight_bytes();
  plan.kv_cache = KvCache::plan_bytes(model, ops, sizes.context, kv_element);
  const uint64_t logits = sizeof(float) * static_cast<uint64_t>((1 + sizes.n_speculate) * text.vocab_size);
  const uint64_t tokens = 2 * sizeof(TokenId) * static_cast<uint64_t>(sizes.context + 1);  // cached and pending
  plan.decoder_scratch = tokens + TextDecoder::plan_bytes(model, ops, sizes.context, sizes.batch) + logits;
  if (!model.has_vision()) return plan;

  const VisionConfig& vision = model.vision();
  const int64_t patch_pixels = vision.patch.patch_size * vision.patch.patch_size;
  const int64_t pixels = 3 * sizes.max_image_patches * patch_pixels;  // values of one picture
  const int64_t embedding = sizes.max_image_tokens * vision.projection_dim;
  plan.vision_scratch = VisionEncoder::plan_bytes(model, ops, sizes.max_image_patches) +
                        static_cast<uint64_t>(pixels) * (sizeof(uint8_t) + sizeof(float)) +
                        static_cast<uint64_t>(embedding) * sizeof(float);
  plan.image_reading = sizes.source_limits.max_memory;
  return plan;
}

Result<MemoryPlan> plan_session(const Model& model, const SessionOptions& options) {
  GLIMPSE_ASSIGN(const SessionSizes sizes, session_sizes(model, options));
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model.make_ops(sizes.n_threads));
  return session_memory(model, *ops, sizes, options.kv_element);
}

std::string describe(const MemoryPlan& plan) {
  return format(
      "cache %.0f MiB, decoder %.0f MiB, vision encoder %.0f MiB; weights %.0f MiB, shared; while a picture "
      "is read at most %.0f MiB",
      mib(plan.kv_cache), mib(plan.decoder_scratch), mib(plan.vision_scratch), mib(plan.weights),
      mib(plan.image_reading));
}

}  // namespace glimpse
