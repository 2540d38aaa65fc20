// Writes a planned file: tensor after tensor, a few megabytes at a time, so that memory does not grow with the model.
#pragma once

#include <functional>
#include <string>

#include "engine/base/result.h"
#include "tools/quantize/plan.h"

namespace glimpse {

struct QuantizeOptions {
  std::string path;        // of the file to write
  bool overwrite = false;  // an existing file
  int n_threads = 1;
  std::function<bool(double fraction)> progress;  // after each piece; false: cancel
  std::function<void(size_t index)> tensor_done;  // in the order of the plan
};

/// Writes `file` anew with the types of `plan`: same tensors, same order, same metadata but general.file_type and
/// general.quantization_version (set), quantize.imatrix.* (set when request.importance is given), split.* (left out:
/// the result is one file). The bytes do not depend on n_threads.
/// Errors: kInvalidArgument (the file exists), kNumeric (a tensor with NaN or infinity, or with values that the type
/// cannot hold), kIo, kTruncated (the source changed meanwhile), kCancelled; nothing is left behind.
Status write_quantized(const GgufFile& file, const QuantizeRequest& request, const QuantizePlan& plan,
                       const QuantizeOptions& options);

}  // namespace glimpse
