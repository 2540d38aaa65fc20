// One row's codes in a panel block: the other end of the way
//   GGUF block <-> BlockCodes (kernels/quant/block_codes.h) <-> panel block.
// Packing, row look-up and the reference kernels go through it, so that the panel layout is in one place.
#pragma once

#include <cstdint>

#include "kernels/matmul/panel_layout.h"
#include "kernels/quant/block_codes.h"

namespace glimpse {

/// panel_block: the panel block (panel_layout(format).bytes bytes); row: 0..15.
void read_panel_codes(PanelFormat format, const uint8_t* panel_block, int row, BlockCodes& codes);
/// Writes the bits of one row; those of the other rows stay.
void write_panel_codes(PanelFormat format, const BlockCodes& codes, int row, uint8_t* panel_block);

}  // namespace glimpse
