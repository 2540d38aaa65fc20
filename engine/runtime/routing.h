// Which experts a row goes through.
#pragma once

#include <cstdint>

namespace glimpse {

/// The n_used experts of the greatest scores, of equal ones the lower numbers: their numbers, ascending, and their
/// weights softmax(scores) over all n_experts, made to add up to 1 if `normalize`. With NaN among the scores the
/// numbers are some experts' and the weights NaN.
void choose_experts(const float* scores, int64_t n_experts, int64_t n_used, bool normalize, float* expert,
                    float* weight);

}  // namespace glimpse
