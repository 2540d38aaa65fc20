// y = W x on panels: activation formats, kernel selection and the tile driver. Threading lies one level up.
//
// Every output element is reduced in one fixed order that depends on the format and the ISA only: never on the number
// of columns, the position in a tile or the thread. So decoding a token gives the bits that prefill gave.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/cpu_features.h"
#include "kernels/matmul/panel.h"

namespace glimpse {

/// What a kernel wants its activations to be.
enum class ActFormat {
  kF32,      // float rows
  kBf16,     // bfloat16 rows, round to nearest even
  kInt8x32,  // int8, one float scale per 32 (weights in blocks of 32: the precision of ggml's Q8_0 companion)
  kInt8x256, // int8, one float scale per 256 (K-quants: the precision of ggml's Q8_K companion)
};

/// n columns (tokens) of k activations each, in one format. All pointers 64-byte aligned; rows are padded with zeros
/// to a multiple of 256 values so that kernels may read whole groups.
struct ActView {
  ActFormat format = ActFormat::kF32;
  int64_t n = 0;
  int64_t k = 0;
  int64_t k_padded = 0;             // values per row, including padding
  const void* values = nullptr;     // (n, k_padded) of float, bf16 or int8
  const float* scales = nullptr;    // int8: (n, k_padded / 32 or 256)
  const int16_t* sums16 = nullptr;  // int8: (n, k_padded / 16), sums of 16 quantised values
  const int16_t* sums32 = nullptr;  // int8: (n, k_padded / 32)

  /// Columns [first, first + count).
  ActView columns(int64_t first, int64_t count) const;
};

/// Bytes for ActView storage of n columns of k values.
uint64_t act_bytes(ActFormat format, int64_t n, int64_t k);
/// Lays a view out in `storage` (act_bytes bytes, 64-byte aligned); its contents are written by quantize_act_row.
ActView make_act_view(ActFormat format, int64_t n, int64_t k, std::byte* storage);
/// Converts x (k floats) into column `column` of the view, padding included. Symmetric int8: scale = max|x| / 127,
/// round to nearest even; an all-zero block has scale 0.
void quantize_act_row(Isa isa, const ActView& view, int64_t column, const float* x);

/// Multiplies n_panels consecutive panels with all columns of `act`.
/// out: (act.n, 16 * n_panels) floats, row stride ld_out. scratch: panel_scratch_bytes(format, k), 64-byte aligned.
using PanelKernelFn = void (*)(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                               float* out, int64_t ld_out, std::byte* scratch);

struct PanelKernel {
  const char* name;  // "matmul_q4_k_int8x256_avx512vnni"
  PanelFormat format;
  Isa isa;           // lowest level it runs on
  ActFormat act;
  PanelKernelFn run;
};

/// All compiled kernels, in the order of matmul_kernels.inc.
std::span<const PanelKernel> panel_kernels();
/// The best kernel for a format at an ISA level; every format has at least the reference.
const PanelKernel& select_panel_kernel(PanelFormat format, Isa isa);
/// Scratch bytes that any kernel of this format may need for k columns of weights.
uint64_t panel_scratch_bytes(PanelFormat format, int64_t k);

}  // namespace glimpse
