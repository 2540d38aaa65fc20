// A picture of any size to measure with: smooth waves and some grain, as a JPEG file in memory, so that decoding is as
// much work as a photograph's.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::bench {

/// A baseline JPEG, quality 90, 4:2:0. The same bytes for the same size and libjpeg.
/// Errors: kInvalidArgument (a side outside 1 to 16384), kInternal (libjpeg's message).
Result<std::vector<std::byte>> synthetic_jpeg(int width, int height);

}  // namespace glimpse::bench
