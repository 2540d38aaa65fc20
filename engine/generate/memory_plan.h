// Bytes that sessions and encoders use, known before any of them is allocated.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"
#include "engine/generate/image_budget.h"
#include "engine/model/model.h"
#include "engine/runtime/ops.h"

namespace glimpse {

struct MemoryPlan {
  uint64_t weights = 0;  // of the model, shared
  uint64_t kv_cache = 0;
  uint64_t decoder_scratch = 0;
  /// With the resized pixels, patches and embedding of one picture, kept while it is encoded.
  uint64_t vision_scratch = 0;
  /// While a picture is read: its file, what its format's decoder holds, rows on their way through the resizing. At
  /// most: source_limits.max_memory, which is checked before anything is allocated; with JPEG, PNG, BMP and PPM as they
  /// usually are it is a few MiB. Not allocated beforehand.
  uint64_t image_reading = 0;
  uint64_t total() const { return weights + kv_cache + decoder_scratch + vision_scratch + image_reading; }
};

/// Fills in what pictures of these sizes take. Precondition: the model has vision.
void add_pictures(const Model& model, const Ops& ops, const PictureSizes& sizes, MemoryPlan& plan);
/// "weights 934 MiB (shared), cache 112 MiB, ..."
std::string describe(const MemoryPlan& plan);
/// That what is yet to be allocated is there. owner: "the session"; advice: what takes less. Errors: kOutOfMemory.
Status check_available(const MemoryPlan& plan, const Ops& ops, const char* owner, const std::string& advice);
/// An error of an allocation, with the plan's sizes.
Error explain(Error error, const MemoryPlan& plan);

}  // namespace glimpse
