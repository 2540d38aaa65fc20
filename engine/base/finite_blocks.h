// Weights that are no numbers: a file damaged or quantised from NaN, which would poison every later activation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/dtype.h"

namespace glimpse {

/// Index of the first block with a NaN or infinite scale (or element, for F32, F16 and BF16), or -1 when all n
/// elements are finite. -1 for types that are no weights. blocks: any alignment.
int64_t find_non_finite_block(DType type, const std::byte* blocks, int64_t n);

}  // namespace glimpse
