// Rows of F16 values to floats, per ISA. Read by ISA-specific files: declarations only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glimpse {

/// n IEEE binary16 values, any alignment, to floats; exact. A signalling NaN becomes a quiet one.
void half_row_to_float_avx2(const std::byte* halves, float* out, int64_t n);

}  // namespace glimpse
