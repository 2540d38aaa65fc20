// The scan for values that are not finite.
#include <algorithm>
#include <bit>
#include <cstring>

#include "loaders/gguf/gguf_check.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

// Where a block keeps its 16-bit scales (ggml-common.h). F32, F16 and BF16 are blocks of one value.
struct ScaleLayout {
  DType type;
  uint32_t exponent_mask;  // of the stored number: all these bits set means NaN or infinity
  int offsets[2];          // bytes into the block; -1: none
};
constexpr uint32_t kHalf = 0x7c00, kBrain = 0x7f80, kSingle = 0x7f800000;
constexpr ScaleLayout kLayouts[] = {
    {DType::kF32, kSingle, {0, -1}},  {DType::kF16, kHalf, {0, -1}},    {DType::kBF16, kBrain, {0, -1}},
    {DType::kQ4_0, kHalf, {0, -1}},   {DType::kQ4_1, kHalf, {0, 2}},    {DType::kQ5_0, kHalf, {0, -1}},
    {DType::kQ5_1, kHalf, {0, 2}},    {DType::kQ8_0, kHalf, {0, -1}},   {DType::kQ2_K, kHalf, {80, 82}},
    {DType::kQ3_K, kHalf, {108, -1}}, {DType::kQ4_K, kHalf, {0, 2}},    {DType::kQ5_K, kHalf, {0, 2}},
    {DType::kQ6_K, kHalf, {208, -1}}, {DType::kIQ4_NL, kHalf, {0, -1}}, {DType::kIQ4_XS, kHalf, {0, -1}},
};

const ScaleLayout* find_layout(DType type) {
  const auto* found = std::find_if(std::begin(kLayouts), std::end(kLayouts),
                                   [type](const ScaleLayout& layout) { return layout.type == type; });
  return found == std::end(kLayouts) ? nullptr : found;
}

bool is_finite(const std::byte* bytes, uint32_t exponent_mask) {
  uint32_t bits = 0;
  if (exponent_mask == kSingle) {
    std::memcpy(&bits, bytes, 4);
  } else {
    uint16_t half;
    std::memcpy(&half, bytes, 2);
    bits = half;
  }
  return (bits & exponent_mask) != exponent_mask;
}

}  // namespace

Result<std::vector<GgufFinding>> check_gguf_data(const GgufFile& file, const ProgressSink& progress) {
  std::vector<GgufFinding> findings;
  std::vector<std::byte> buffer;
  uint64_t total = 0, done = 0;
  for (const GgufTensor& tensor : file.tensors()) total += tensor.n_bytes;
  for (const GgufTensor& tensor : file.tensors()) {
    const ScaleLayout* layout = find_layout(tensor.type);
    const DTypeInfo& info = dtype_info(tensor.type);
    // About 4 MB at a time, in whole blocks.
    const uint64_t step = std::max<uint64_t>(1, (uint64_t{4} << 20) / info.block_bytes) * info.block_bytes;
    uint64_t n_bad = 0, first_bad = 0;  // blocks
    for (uint64_t offset = 0; layout != nullptr && offset < tensor.n_bytes; offset += step) {
      if (progress && !progress("check", static_cast<double>(done + offset) / static_cast<double>(total))) {
        return make_error(ErrorCode::kCancelled, "the check was cancelled");
      }
      buffer.resize(std::min(step, tensor.n_bytes - offset));
      GLIMPSE_TRY(file.read(tensor, offset, buffer));
      for (uint64_t block = 0; block < buffer.size(); block += info.block_bytes) {
        bool finite = true;
        for (int scale : layout->offsets) {
          if (scale >= 0) finite = finite && is_finite(buffer.data() + block + scale, layout->exponent_mask);
        }
        if (!finite && n_bad++ == 0) first_bad = (offset + block) / info.block_bytes;
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
