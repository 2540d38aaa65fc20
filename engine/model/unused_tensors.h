// What a file holds and a model does not read. A tensor that nobody reads is a model that somebody else meant: too few
// layers by a wrong block_count, a bias under another name, factors of a rotation that is not run.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

enum class ModelSide { kText, kVision };

/// Tensors that are left for the same reason.
struct UnusedTensors {
  std::string reason;
  bool changes_result = true;  // false: the answers are the same without them
  ErrorCode code = ErrorCode::kUnsupported;
  std::vector<const GgufTensor*> tensors;  // in the order of the file
  /// "12 tensors are not used, the first 'blk.3.attn_norm.weight' f32 (64): " and the reason.
  std::string describe() const;
};

/// All tensors whose names are not in `used`, by reason, those that change the result first. n_blocks: of that side,
/// as the file says. Biases and position tables that are not read are looked into: of zeros only, they change nothing.
/// Errors: kTruncated, kIo.
Result<std::vector<UnusedTensors>> find_unused_tensors(const GgufFile& file, const std::set<std::string>& used,
                                                       ModelSide side, int64_t n_blocks);

/// Warns of the tensors that change nothing. Errors: those of find_unused_tensors(); kCorrupt or kUnsupported for the
/// first reason that changes the result.
Status refuse_unused_tensors(const GgufFile& file, const std::set<std::string>& used, ModelSide side, int64_t n_blocks,
                             const LogSink& log);

}  // namespace glimpse
