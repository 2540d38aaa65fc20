// The scan for values that are not finite.
#include <algorithm>

#include "engine/base/finite_blocks.h"
#include "loaders/gguf/gguf_check.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {

Result<std::vector<GgufFinding>> check_gguf_data(const GgufFile& file, const ProgressSink& progress) {
  std::vector<GgufFinding> findings;
  std::vector<std::byte> buffer;
  uint64_t total = 0, done = 0;
  for (const GgufTensor& tensor : file.tensors()) total += tensor.n_bytes;
  for (const GgufTensor& tensor : file.tensors()) {
    const DTypeInfo& info = dtype_info(tensor.type);
    // About 4 MB at a time, in whole blocks.
    const uint64_t step = std::max<uint64_t>(1, (uint64_t{4} << 20) / info.block_bytes) * info.block_bytes;
    uint64_t n_bad = 0, first_bad = 0;  // blocks
    for (uint64_t offset = 0; info.is_weight && offset < tensor.n_bytes; offset += step) {
      if (progress && !progress("check", static_cast<double>(done + offset) / static_cast<double>(total))) {
        return make_error(ErrorCode::kCancelled, "the check was cancelled");
      }
      buffer.resize(std::min(step, tensor.n_bytes - offset));
      GLIMPSE_TRY(file.read(tensor, offset, buffer));
      const auto n_blocks = static_cast<int64_t>(buffer.size() / info.block_bytes);
      for (int64_t block = 0; block < n_blocks; ++block) {
        const int64_t bad = find_non_finite_block(tensor.type, buffer.data() + block * info.block_bytes,
                                                  (n_blocks - block) * info.block_length);
        if (bad < 0) break;
        block += bad;
        if (n_bad++ == 0) first_bad = offset / info.block_bytes + static_cast<uint64_t>(block);
      }
    }
    done += tensor.n_bytes;
    if (n_bad == 0) continue;
    findings.push_back({GgufFinding::Level::kWarning,
                        format("tensor %s %s: %d of %d %s are NaN or infinite, the first at element %d",
                               quoted(tensor.name), tensor.describe(), n_bad, tensor.n_bytes / info.block_bytes,
                               info.block_length > 1 ? "block scales" : "values", first_bad * info.block_length)});
  }
  return findings;
}

}  // namespace glimpse
