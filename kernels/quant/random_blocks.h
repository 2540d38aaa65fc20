// Random weights of any quantised type, for measurements and synthetic models: types that glimpse cannot write have no
// quantiser to make them with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/dtype.h"

namespace glimpse {

/// n elements (a multiple of the block length) of a quantised type: blocks of random bits, of which every sequence is
/// one for the types that are read only, with scales such that the elements of each block have the root mean square 1.
void random_blocks(DType type, uint64_t seed, int64_t n, std::byte* out);

}  // namespace glimpse
