// A session's options, checked and with every default filled in, and the memory they ask for.
#pragma once

#include <algorithm>
#include <memory>

#include "engine/generate/session.h"

namespace glimpse {

/// Of a draft model, which shares threads, batch and type of cache with the one that it drafts for.
struct DraftSizes {
  std::shared_ptr<const Model> model;  // nullptr: there is none
  int64_t n_tokens = 0;                // of a draft
  int64_t context = 0;                 // a longer text is not drafted for
  int64_t pool_slots = 0;
  float least_probability = 0;
};

struct SessionSizes : PictureSizes {
  int n_threads = 1;
  int64_t context = 0;
  int64_t batch = 0;
  int64_t pool_slots = 0;   // of all texts together; at least context
  int64_t n_speculate = 0;  // below batch: a token and its drafts are one pass
  DraftSizes draft;

  int64_t most_drafts() const { return std::max(n_speculate, draft.n_tokens); }
};

/// Logs when a context is capped. Errors: kInvalidArgument names the option and its range; those of
/// check_draft_model().
Result<SessionSizes> session_sizes(const Model& model, const SessionOptions& options);
MemoryPlan session_memory(const Model& model, const Ops& ops, const SessionSizes& sizes, KvElement kv_element);

}  // namespace glimpse
