// Rows of float weights on their way into panels, at load.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/cpu_features.h"
#include "kernels/matmul/panel.h"

namespace glimpse {

/// Formats that float_row() can write.
constexpr bool is_float_row_target(PanelFormat format) {
  return format == PanelFormat::kF32 || format == PanelFormat::kBF16 || format == PanelFormat::kI8x32;
}

/// Bytes that float_row() needs beside its output.
uint64_t float_row_scratch_bytes(PanelFormat format, int64_t cols);

/// Converts a row of cols floats into a row of blocks: F32, BF16 (round to nearest even) or kI8x32 (per 32 columns,
/// those behind the end zero: twice mix_block(), scale = max|x| / 127, q = x / scale rounded to nearest even). out:
/// panel_row_bytes(format, cols) bytes. scratch: 64-byte aligned. The same bits on every ISA. Precondition:
/// is_float_row_target(format).
void float_row(Isa isa, PanelFormat format, const float* x, int64_t cols, std::byte* out, std::byte* scratch);

}  // namespace glimpse
