// Pixels that a picture has more than once need not be encoded more than once.
#pragma once

#include <cstdint>

#include "engine/preprocess/preprocess.h"

namespace glimpse {

/// Leaves out the cells (merge_size x merge_size patches, a token each) that those before them foretell exactly:
/// a cell is taken to be the one to its left, or the one above it where the one above the left equals the left and not
/// the above (an edge runs down between them). One whose pixels are so is left out, and could be put back. `cells` then
/// names those that stay, of which the first is always one; a picture that loses none is as it was.
/// Source: N. Wang et al., PixelPrune (arXiv 2604.00886), without tolerance; the predictor is LOCO-I's of JPEG-LS.
void leave_out_repeated_cells(Patches& patches, int64_t merge_size);

}  // namespace glimpse
