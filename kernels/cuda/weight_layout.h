// Weights in device memory. One copy serves the matrix-vector kernels (dp4a) and the matrix-matrix kernels (mma): a
// lane's share of a tile is both what it multiplies in a GEMV and its part of a matrix fragment.
//
// A matrix is padded to 16 rows and 128 columns with zero weights. A tile is 8 rows x 128 columns; a cell is 32
// consecutive columns of one row. With g = lane / 4 and t = lane % 4, lane (g, t) owns cell t of row g of every tile,
// so that a warp reads a tile with 16-byte loads of 512 consecutive bytes. Each format has up to four planes, each
// ordered [row tile][column tile][...]:
//   low     [part][row][cell] of 16 bytes (2-bit codes: [row][cell] of 8). With step s = 0..7 meaning columns 4s..4s+3
//           of a cell, one per byte of a word:
//             2 bits  word w, bits 2i: step 4w+i          4 bits  word w: low nibbles step 2w, high nibbles step 2w+1
//             8 bits  part p, word j: step 4p+j           16 bits part p: columns 8p..8p+7         32 bits likewise
//             4p..
//   high    [row][cell]: 1 bit: one word, bit s of each byte: step s; 2 bits: two words, as 2-bit codes above
//   scales  32-column blocks: [row][cell] of 2 (d) or 4 bytes (d, m)
//           MXFP4: 1 byte, the exponent
//           256-column blocks: [row tile][super-block][row] of 16 bytes (IQ4_XS, IQ2, IQ3: 8):
//             Q4_K Q5_K  d | dmin << 16; then words A, B, H: A bits 4j = sc_j & 15, B bits 4j = mn_j & 15,
//                        H bits 2j = sc_j >> 4, H bits 16+2j = mn_j >> 4
//             Q6_K Q3_K  16 signed scales (Q3_K: minus 32)      Q2_K  16 bytes scale | min << 4
//             IQ4_XS     d | scales_h << 16; then scales_l
//             IQ3        d; then bits 4j = sc_j               IQ2  bits 4j = sc_j
//             IQ1        16 bytes sc | high << 3 | high' << 4: the high bits of the codes of both eights of its
//             sub-block
//   d       Q6_K Q3_K IQ2 IQ1: [row tile][super-block][row] of 2 bytes (d); Q2_K: 4 (d, dmin)
// Everything but Q3_K (16 scale bytes instead of 12) takes exactly the bytes of its GGUF blocks, padding aside, and but
// the types whose files hold no planes: those arrive as blocks of another arrangement (device_blocks.h, which says what
// they take).
#pragma once

#include <cstdint>

#include "engine/base/block_format.h"
#include "kernels/cuda/layer.h"

namespace glimpse::cuda {

/// The stored format of a matrix: the type of a GGUF tensor that has its content.
using Format = DType;

constexpr int kTileRows = 8;
constexpr int kTileColumns = 128;
constexpr int kCell = 32;
constexpr int kCellsPerTile = kTileRows * kTileColumns / kCell;  // one per lane

/// What the planes of a format hold, per cell or per super-block and row.
struct Planes {
  int low_bits = 0;        // 2, 4, 8, 16 or 32
  int high_bits = 0;       // 0, 1 or 2
  int scale_bytes = 0;     // per cell, or per super-block and row
  int d_bytes = 0;         // per super-block and row
  bool super = false;      // blocks of 256 columns
  int sub = 32;            // columns that share a scale
  int offset = 0;          // weight = scale * (code - offset)
  bool is_signed = false;  // codes are signed bytes
  bool table = false;      // codes are indices into a table
  bool shared = false;     // the high bit of eight codes is beside their scale
  bool mins = false;       // weight = scale * code - min (or + m)

  constexpr bool integer() const { return low_bits <= 8; }
  constexpr int low_bytes() const { return low_bits * kCell / 8; }  // per cell
  constexpr int parts() const { return low_bits < 4 ? 1 : low_bits / 4; }
  constexpr int high_bytes() const { return high_bits * kCell / 8; }
  constexpr int cell_scale_bytes() const { return scale_bytes / 8; }  // super, with d apart: of a cell in its record
};

GLIMPSE_HD constexpr Planes planes_of(Format format) {
  const BlockFormat f = block_format(format);
  Planes p;
  if (f.is_own()) return p;  // of the CPU's vision encoder only
  if (!f.is_quantised()) {
    p.low_bits = 8 * f.bytes();
    return p;
  }
  const bool words = f.scales == ScaleKind::kSix8Split || f.scales == ScaleKind::kOdd8;
  const bool keeps_d = words || f.scales == ScaleKind::kSix8;  // beside the scales
  const int halves = f.mins == MinKind::kNone ? 2 : 4;
  p.low_bits = f.low.bits;
  p.shared = f.shared != 0;
  p.high_bits = p.shared ? 0 : f.high.bits;
  p.super = f.length() == 256;
  if (!p.super) {
    p.scale_bytes = f.d_type == ScaleType::kPower ? 1 : halves;
  } else {
    p.scale_bytes = words || (f.scales == ScaleKind::kOdd16 && !p.shared) ? 8 : 16;
  }
  p.d_bytes = p.super && !keeps_d ? halves : 0;
  p.sub = f.sub;
  p.is_signed = f.offset == 128;
  p.offset = p.is_signed ? 0 : f.offset;
  p.table = static_cast<bool>(f.table);
  p.mins = f.mins != MinKind::kNone;
  return p;
}

/// A matrix in device memory. Offsets are bytes from `data`, multiples of 16.
struct WeightView {
  const uint8_t* data = nullptr;
  int32_t rows = 0, cols = 0;  // of the matrix
  int32_t row_tiles = 0;       // an even number
  int32_t column_tiles = 0;
  int64_t high_at = 0, scales_at = 0, d_at = 0;  // the low plane is at 0
};

/// Fills in everything but data; returns the bytes of all planes. rows, cols >= 1; cols a multiple of the format's
/// block length.
inline uint64_t lay_out(Format format, int64_t rows, int64_t cols, WeightView& view) {
  const Planes p = planes_of(format);
  view.rows = static_cast<int32_t>(rows);
  view.cols = static_cast<int32_t>(cols);
  view.row_tiles = static_cast<int32_t>((rows + 2 * kTileRows - 1) / (2 * kTileRows) * 2);
  view.column_tiles = static_cast<int32_t>((cols + kTileColumns - 1) / kTileColumns);
  const int64_t tiles = static_cast<int64_t>(view.row_tiles) * view.column_tiles;
  const int64_t records = p.super ? tiles / 2 * kTileRows : tiles * kCellsPerTile;
  view.high_at = tiles * kCellsPerTile * p.low_bytes();
  view.scales_at = view.high_at + tiles * kCellsPerTile * p.high_bytes();
  view.d_at = view.scales_at + records * p.scale_bytes;
  return static_cast<uint64_t>((view.d_at + records * p.d_bytes + 15) / 16 * 16);
}

// Where a lane's piece lies. row: 0..7 in the tile; cell: 0..3.
GLIMPSE_HD int64_t tile_index(const WeightView& w, int row_tile, int column_tile) {
  return static_cast<int64_t>(row_tile) * w.column_tiles + column_tile;
}
template <Format format>
GLIMPSE_HD int64_t low_offset(int64_t tile, int part, int row, int cell) {
  constexpr Planes p = planes_of(format);
  constexpr int piece = p.low_bytes() < 16 ? p.low_bytes() : 16;
  return (tile * p.parts() + part) * kCellsPerTile * piece + (row * 4 + cell) * piece;
}
template <Format format>
GLIMPSE_HD int64_t high_offset(const WeightView& w, int64_t tile, int row, int cell) {
  constexpr Planes p = planes_of(format);
  return w.high_at + (tile * kCellsPerTile + row * 4 + cell) * p.high_bytes();
}
/// column_tile: needed for formats of super-blocks, where two tiles share a record.
template <Format format>
GLIMPSE_HD int64_t scales_offset(const WeightView& w, int row_tile, int column_tile, int row, int cell) {
  constexpr Planes p = planes_of(format);
  if constexpr (p.super) {
    return w.scales_at + ((static_cast<int64_t>(row_tile) * (w.column_tiles / 2) + column_tile / 2) * kTileRows + row) *
                             p.scale_bytes;
  } else {
    return w.scales_at + (tile_index(w, row_tile, column_tile) * kCellsPerTile + row * 4 + cell) * p.scale_bytes;
  }
}
template <Format format>
GLIMPSE_HD int64_t d_offset(const WeightView& w, int row_tile, int column_tile, int row) {
  constexpr Planes p = planes_of(format);
  return w.d_at +
         ((static_cast<int64_t>(row_tile) * (w.column_tiles / 2) + column_tile / 2) * kTileRows + row) * p.d_bytes;
}

}  // namespace glimpse::cuda
