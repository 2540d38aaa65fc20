// What a session shares with those forked from it.
#pragma once

#include <memory>

#include "engine/generate/draft_model.h"
#include "engine/generate/picture_encoder.h"
#include "engine/generate/session_plan.h"
#include "engine/model/kv_pages.h"
#include "engine/model/text_decoder.h"

namespace glimpse {

/// Threads and scratch, at which one of the sessions works at a time, and the pages that their caches are made of.
struct Workbench {
  /// Allocates all of it. Errors: those of its parts.
  static Result<std::shared_ptr<Workbench>> create(const std::shared_ptr<const Model>& model, const SessionSizes& sizes,
                                                   std::unique_ptr<Ops> ops, KvElement kv_element);

  std::unique_ptr<Ops> ops;
  std::shared_ptr<KvPages> pages;
  std::unique_ptr<PictureEncoder> encoder;  // where the model has eyes
  std::unique_ptr<DraftBench> draft;        // where there is a draft model
  std::unique_ptr<TextDecoder> decoder;     // goes first: its steps may be under way
};

}  // namespace glimpse
