#include "kernels/matmul/weight_row.h"

#include <cstring>

#include "engine/base/checked.h"
#include "kernels/matmul/matmul.h"

namespace glimpse {
namespace {

// Activations are converted in the same way, by code that is fast on every ISA.
ActFormat act_format(PanelFormat format) {
  return format == PanelFormat::kBF16 ? ActFormat::kBf16 : ActFormat::kInt8x32Mixed;
}

}  // namespace

uint64_t float_row_scratch_bytes(PanelFormat format, int64_t cols) {
  return format == PanelFormat::kF32 ? 0 : act_bytes(act_format(format), 1, cols);
}

void float_row(Isa isa, PanelFormat format, const float* x, int64_t cols, std::byte* out, std::byte* scratch) {
  if (format == PanelFormat::kF32) {
    std::memcpy(out, x, static_cast<uint64_t>(cols) * sizeof(float));
    return;
  }
  const ActView view = make_act_view(act_format(format), 1, cols, scratch);
  quantize_act_row(isa, view, 0, x);
  if (format == PanelFormat::kBF16) {
    std::memcpy(out, view.data, panel_row_bytes(format, cols));
    return;
  }
  const PanelRowFormat row = panel_row_format(format);
  for (int64_t b = 0; b < ceil_div(cols, row.block_length); ++b) {
    std::byte* block = out + static_cast<uint64_t>(b) * row.block_bytes;
    float scale;
    std::memcpy(&scale, view.data + view.scales_at + 4 * b, 4);
    scale *= 2;  // mixed twice by mix_block(), a vector is half of itself
    std::memcpy(block, &scale, 4);
    std::memcpy(block + 4, view.data + row.block_length * b, static_cast<uint64_t>(row.block_length));
  }
}

}  // namespace glimpse
