// Looks for what is unusual, suspicious or unusable in a file that parses: the findings of `glimpse inspect`.
#pragma once

#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

struct GgufFinding {
  enum class Level {
    kNote,     // unusual, but glimpse does not mind
    kWarning,  // the model will not load, will not load elsewhere, or is likely to misbehave
  };
  Level level = Level::kNote;
  std::string text;  // one line for people; what the file says is escaped
};

/// Looks at metadata and tensor table; reads no tensor. Findings come in a fixed order: file, keys, vocabulary,
/// tensors. An empty list: nothing to say.
std::vector<GgufFinding> check_gguf(const GgufFile& file);

/// Reads every tensor and reports those with a NaN or an infinity: in the values of F32, F16 and BF16, in the scales
/// of quantised blocks. Other types are skipped. Errors: kIo, kTruncated; kCancelled when `progress` says so.
/// Source: llama.cpp ggml_validate_row_data (--check-tensors).
Result<std::vector<GgufFinding>> check_gguf_data(const GgufFile& file, const ProgressSink& progress = {});

}  // namespace glimpse
