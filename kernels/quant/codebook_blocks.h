// Blocks whose codes are not bit planes: entries of codebooks (IQ1, IQ2, IQ3), digits of base 3 (TQ1_0). Read only.
// Private to kernels/quant.
#pragma once

#include "kernels/quant/block_codes.h"

namespace glimpse {

/// Fills in codes.scale and codes.q as block_format.h numbers them. block: of a type whose description says codebook.
void decode_codebook_block(DType type, const uint8_t* block, BlockCodes& codes);

}  // namespace glimpse
