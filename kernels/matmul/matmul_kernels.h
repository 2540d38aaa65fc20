// Declarations of every matmul kernel of matmul_kernels.inc. Read by ISA-specific files: no inline code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matmul/act_view.h"

namespace glimpse {

/// Multiplies n_panels consecutive panels with all columns of `act`.
/// panels: 64-byte aligned, the next panel panel_stride bytes on. act: in the kernel's activation format, act.k columns
/// of weights. out: (act.n, 16 * n_panels) floats, row stride ld_out floats, any alignment, all written.
/// scratch: panel_scratch_bytes(format, k) bytes, 64-byte aligned.
using PanelKernelFn = void (*)(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                               float* out, int64_t ld_out, std::byte* scratch);

#define GLIMPSE_KERNEL(isa, weights, activations, function)                                                       \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch);
#include "kernels/matmul/matmul_kernels.inc"
#undef GLIMPSE_KERNEL

// Conversion of one activation row, per ISA; the same bits on each. See quantize_act_row.
void quantize_act_ref(const ActView& view, int64_t column, const float* x);
void quantize_act_avx2(const ActView& view, int64_t column, const float* x);
void quantize_act_avx512(const ActView& view, int64_t column, const float* x);

}  // namespace glimpse
