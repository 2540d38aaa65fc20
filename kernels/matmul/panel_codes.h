// The neutral form of one quantised block, between a GGUF block and its place in a panel:
//   GGUF block <-> BlockCodes <-> panel block.
// Packing, unpacking, row look-up and the reference kernels all go through it, so that each GGUF format is read in one
// place and each panel layout in another.
#pragma once

#include <cstdint>

#include "kernels/matmul/panel_layout.h"

namespace glimpse {

/// The integers of one block of one row, as the format numbers them (unsigned codes, nothing subtracted).
struct BlockCodes {
  uint16_t d = 0;          // f16 bits
  float own_scale = 0;     // kI8x128 has this instead of d
  uint16_t m = 0;          // f16 bits of dmin or m
  uint8_t scale[16] = {};  // codes of the sub-block scales (Q6_K: the bits of an int8)
  uint8_t min[16] = {};    // codes of the sub-block mins
  uint8_t q[256] = {};     // codes of the weights (8-bit formats: the bits of an int8)
};

/// block: one block of an integer format as rows hold it (PanelRowFormat), any alignment.
void decode_row_block(PanelFormat format, const uint8_t* block, BlockCodes& codes);
void encode_row_block(PanelFormat format, const BlockCodes& codes, uint8_t* block);

/// panel_block: the panel block (panel_layout(format).bytes bytes); row: 0..15.
void read_panel_codes(PanelFormat format, const uint8_t* panel_block, int row, BlockCodes& codes);
/// Writes the bits of one row; those of the other rows stay.
void write_panel_codes(PanelFormat format, const BlockCodes& codes, int row, uint8_t* panel_block);

/// Scale of sub-block s: d times the signed integer scale. Exact in float.
float sub_scale(const PanelLayout& layout, const BlockCodes& codes, int s);
/// The integer that a code stands for, before scale and min: code - offset, or the table's value.
inline int code_value(const PanelLayout& layout, uint8_t code) {
  if (layout.table) return kIq4Values[code];
  if (layout.offset == 128) return static_cast<int8_t>(code);
  return code - layout.offset;
}

}  // namespace glimpse
