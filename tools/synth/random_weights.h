// Random weights of any type with a given standard deviation, fast enough to fill gigabytes in seconds.
//
// Quantised types draw whole blocks from a pool of gaussian blocks that the reference quantiser made, and rescale each
// block's own scales: real block statistics for every type, without a quantiser's cost per weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/dtype.h"

namespace glimpse {

/// splitmix64 (Steele, Lea, Flood 2014): one multiply-xor chain per number, any seed is good.
struct SplitMix64 {
  uint64_t state = 0;
  uint64_t operator()() {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
};

/// Standard normal quantiles at (i + 0.5) / 65536: sixteen random bits become one gaussian number.
const std::vector<float>& gaussian_table();

/// A source of rows of one type and scale. Immutable after construction: threads may share it.
class RandomWeights {
 public:
  /// deviation: standard deviation of the weights; mean: added to it (float types only).
  RandomWeights(DType type, double deviation, double mean);
  /// Writes n elements (a multiple of the block length) of the stream that `seed` names.
  void fill(uint64_t seed, int64_t n, std::byte* out) const;

 private:
  void fill_floats(uint64_t seed, int64_t n, std::byte* out) const;
  void fill_blocks(uint64_t seed, int64_t n, std::byte* out) const;

  DType type_;
  std::vector<uint32_t> floats_;         // float types: the gaussian table in the type's bits
  std::vector<std::byte> pool_;          // quantised types: kPoolBlocks blocks of deviation 1
  std::vector<uint32_t> scale_offsets_;  // where a block keeps its binary16 scales
  float deviation_;
};

}  // namespace glimpse
