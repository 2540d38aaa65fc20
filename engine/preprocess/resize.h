// The parts of the bicubic resize that tests look at. Private to engine/preprocess.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/base/cpu_features.h"
#include "engine/preprocess/preprocess.h"
#include "engine/preprocess/resize_kernels.h"

namespace glimpse {

/// Bicubic weights of one axis (Keys, a = -0.5; the kernel is widened when shrinking).
struct ResizeFilter {
  int64_t n_taps = 0;
  std::vector<int32_t> first, count, weights;
  std::vector<int16_t> split;

  ResizeFilterView view() const {
    return {static_cast<int64_t>(first.size()), n_taps, first.data(), count.data(), weights.data(), split.data()};
  }
};

/// Preconditions: both sizes are in 1..65535.
ResizeFilter make_bicubic_filter(int64_t n_inputs, int64_t n_outputs);

/// resize_bicubic() on a given ISA, which the CPU must have.
Result<Image> resize_bicubic_on(Isa isa, const Image& image, ImageSize size, ThreadTeam* team);

}  // namespace glimpse
