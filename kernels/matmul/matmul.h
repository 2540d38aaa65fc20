// y = W x on panels: activation formats, the kernel list and selection. Threading lies one level up.
//
// Every output element is reduced in one fixed order that depends on the format and the activation format only: never
// on the number of columns, the position in a tile or the thread. So decoding a token gives the bits that prefill gave.
// The order is written down in README.md of this folder; the integer kernels of every ISA follow it exactly, so they
// agree with each other and with the reference bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/cpu_features.h"
#include "kernels/matmul/act_view.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/matmul/panel.h"

namespace glimpse {

/// Columns [first, first + count) of a view.
ActView act_columns(const ActView& view, int64_t first, int64_t count);
/// Bytes for ActView storage of n columns of k values.
uint64_t act_bytes(ActFormat format, int64_t n, int64_t k);
/// Lays a view out in `storage` (act_bytes bytes, 64-byte aligned); its contents are written by quantize_act_row.
ActView make_act_view(ActFormat format, int64_t n, int64_t k, std::byte* storage);
/// 32 values times an orthogonal matrix and 2^-1/2 (act_mix.h), in place: signs, then a Hadamard matrix, which adds and
/// subtracts values 1, 2, 4, 8 and 16 apart.
void mix_block(float* x);
/// From twice mix_block(v), as weights are stored, to v.
void unmix_block(float* x);
/// Converts x (k floats, any alignment) into column `column` of the view, padding included.
/// Symmetric int8: scale = max|x| / 127, value = x * (127 / max|x|) rounded to nearest even. A block whose largest
/// magnitude is below 2^-100 counts as zero: scale 0. A block with NaN or infinity gets the scale NaN and values 0, so
/// that the output says so. kInt8x32Mixed: of mix_block(). The same bits on every ISA.
void quantize_act_row(Isa isa, const ActView& view, int64_t column, const float* x);

struct PanelKernel {
  const char* name;  // "matmul_q4_k_int8x128k_avx512vnni"
  PanelFormat format;
  Isa isa;  // what it needs
  ActFormat act;
  PanelKernelFn run;
};

/// All compiled kernels, in the order of matmul_kernels.inc.
std::span<const PanelKernel> panel_kernels();
/// The best kernel for a format on an ISA; every format has at least the reference.
const PanelKernel& select_panel_kernel(PanelFormat format, Isa isa);
/// Scratch bytes that any kernel of this format may need for k columns of weights.
uint64_t panel_scratch_bytes(PanelFormat format, int64_t k);

}  // namespace glimpse
