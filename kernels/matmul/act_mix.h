// How int8 is made to bear large channels: blocks of 32 are multiplied by a fixed orthogonal matrix (signs, then
// Hadamard), weights and activations alike, so that their products stay what they are and a block's energy is spread
// evenly. Read by ISA-specific files: constants only.
#pragma once

namespace glimpse {

/// What values i and i + 16 of a block are multiplied with before they are mixed. The signs are a quadratic form of the
/// bits of i, so that a block of equal values is spread as evenly as can be: over half of the results.
constexpr float kMixFirst[16] = {0.125f, 0.125f, 0.125f, -0.125f, 0.125f,  0.125f,  0.125f,  -0.125f,
                                 0.125f, 0.125f, 0.125f, -0.125f, -0.125f, -0.125f, -0.125f, 0.125f};
/// Step s of the first four adds to value i ^ 2^s this times value i: sums and differences 1, 2, 4 and 8 apart.
constexpr float kMixStep[4][16] = {{1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
                                   {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
                                   {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
                                   {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1}};

}  // namespace glimpse
