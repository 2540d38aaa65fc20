// Weights in panels: 16 output rows side by side, K-major, so that one vector lane is one output row and no
// kernel shuffles or sums across lanes. A panel holds exactly the bits of its GGUF blocks, re-arranged
// (pack and unpack are inverse, bit for bit), in the same number of bytes. One layout serves every ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/cpu_features.h"
#include "engine/base/dtype.h"

namespace glimpse {

constexpr int64_t kPanelRows = 16;

/// How a panel stores its weights: one format per weight type (the layouts are drawn in panel_layout.h), and kI8x32,
/// which is made at load from float weights (weight_row.h).
using PanelFormat = DType;

/// A row of weights as pack_panel() takes it: ceil(cols / block_length) blocks. GGUF blocks, or for kI8x32
/// { float scale; int8 q[32]; }, the columns behind the end zero.
struct PanelRowFormat {
  int64_t block_length = 0;
  uint64_t block_bytes = 0;
  const char* name = "";  // "q4_k", "i8x32"
};
PanelRowFormat panel_row_format(PanelFormat format);
uint64_t panel_row_bytes(PanelFormat format, int64_t cols);

/// A packed matrix: (rows, cols) = (out_features, in_features). Rows are padded with zero rows to whole panels;
/// the columns of F16 and BF16 are padded to an even number with zeros.
struct PanelMatrix {
  PanelFormat format = PanelFormat::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  uint64_t panel_bytes = 0;         // stride from one panel to the next
  const std::byte* data = nullptr;  // 64-byte aligned; panel p starts at data + p * panel_bytes

  int64_t n_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

/// Bytes of one panel of `cols` columns (a multiple of 64). cols: a multiple of the format's block length, any number
/// for kI8x32.
uint64_t panel_bytes(PanelFormat format, int64_t cols);

/// Packs up to 16 rows of blocks into one panel. rows: n_rows rows of row_bytes each (missing rows become zero
/// weights); out: panel_bytes(format, cols) bytes. isa: may make it faster; the bytes are the same.
void pack_panel(PanelFormat format, const std::byte* rows, uint64_t row_bytes, int64_t n_rows, int64_t cols,
                std::byte* out, Isa isa = Isa::kRef);

/// One row of a packed matrix as floats (embedding lookup). out: cols floats. Bit-exact to dequantize_row_ref.
void dequantize_panel_row(const PanelMatrix& matrix, int64_t row, float* out);

}  // namespace glimpse
