#include "engine/generate/memory_plan.h"

#include <utility>

#include "engine/model/vision_encoder.h"

namespace glimpse {
namespace {

double mib(uint64_t n_bytes) {
  return static_cast<double>(n_bytes) / (1 << 20);
}

}  // namespace

void add_pictures(const Model& model, const Ops& ops, const PictureSizes& sizes, MemoryPlan& plan) {
  const VisionConfig& vision = model.vision();
  const int64_t patch_pixels = vision.patch.patch_size * vision.patch.patch_size;
  const int64_t pixels = 3 * sizes.max_image_patches * patch_pixels;  // values of one picture
  const int64_t embedding = sizes.max_image_tokens * vision.embedding_width();
  plan.vision_scratch = VisionEncoder::plan_bytes(model, ops, sizes.max_image_patches) +
                        static_cast<uint64_t>(pixels) * (sizeof(uint8_t) + sizeof(float)) +
                        static_cast<uint64_t>(embedding) * sizeof(float);
  plan.image_reading = sizes.source_limits.max_memory;
}

std::string describe(const MemoryPlan& plan) {
  return format(
      "cache %.0f MiB, decoder %.0f MiB, vision encoder %.0f MiB; weights %.0f MiB, shared; while a picture "
      "is read at most %.0f MiB",
      mib(plan.kv_cache), mib(plan.decoder_scratch), mib(plan.vision_scratch), mib(plan.weights),
      mib(plan.image_reading));
}

Status check_available(const MemoryPlan& plan, const Ops& ops, const char* owner, const std::string& advice) {
  const uint64_t needed = plan.total() - plan.weights - plan.image_reading, available = ops.available_bytes();
  if (needed <= available) return {};
  return make_error(ErrorCode::kOutOfMemory, "%s needs %.0f MiB, %.0f MiB are available (%s): use %s", owner,
                    mib(needed), mib(available), describe(plan), advice);
}

Error explain(Error error, const MemoryPlan& plan) {
  if (error.code == ErrorCode::kOutOfMemory) error.message += format(" (%s)", describe(plan));
  return error;
}

}  // namespace glimpse
