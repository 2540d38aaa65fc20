// A session's options, checked and with every default filled in, and the memory they ask for.
#pragma once

#include "engine/generate/session.h"

namespace glimpse {

struct SessionSizes : PictureSizes {
  int n_threads = 1;
  int64_t context = 0;
  int64_t batch = 0;
  int64_t pool_slots = 0;   // of all texts together; at least context
  int64_t n_speculate = 0;  // below batch: a token and its drafts are one pass
};

/// Logs when the context is capped. Errors: kInvalidArgument names the option and its range.
Result<SessionSizes> session_sizes(const Model& model, const SessionOptions& options);
MemoryPlan session_memory(const Model& model, const Ops& ops, const SessionSizes& sizes, KvElement kv_element);

}  // namespace glimpse
