#include "kernels/matmul/matmul.h"

#include <algorithm>

#include "engine/base/checked.h"
#include "kernels/matmul/panel_expanded.h"
#include "kernels/matmul/panel_layout.h"

namespace glimpse {
namespace {

#define GLIMPSE_KERNEL(isa, weights, activations, function) \
  {#function, PanelFormat::weights, Isa::isa, ActFormat::activations, function},
constexpr PanelKernel kKernels[] = {
#include "kernels/matmul/matmul_kernels.inc"
};
#undef GLIMPSE_KERNEL

}  // namespace

std::span<const PanelKernel> panel_kernels() {
  return kKernels;
}

const PanelKernel& select_panel_kernel(PanelFormat format, Isa isa) {
  const auto* best = select_kernel(kKernels, isa, [&](const PanelKernel& kernel) { return kernel.format == format; });
  return best != nullptr ? *best : kKernels[0];
}

uint64_t panel_scratch_bytes(PanelFormat format, int64_t k) {
  if (!is_integer_format(format)) return static_cast<uint64_t>(kFloatScratchBytes);
  const PanelLayout layout = panel_layout(format);
  const int64_t columns = round_up(k, 256), rows = 16;
  const int64_t bytes = std::max(expanded_panel(layout, std::min(columns, kIntegerChunk), rows).bytes,
                                 expanded_panel(layout, std::min(columns, kIntegerChunk / 2), 2 * rows).bytes);
  return static_cast<uint64_t>(layout.offset == 128 ? std::max(bytes, kWordScratchBytes) : bytes);
}

}  // namespace glimpse
