// Rotary positions of the decoder: how fast each pair of a head turns, and by which axis.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/positions.h"

namespace glimpse {

/// How positions beyond the trained ones are squeezed (rope_scaling in config.json).
struct RopeScaling {
  enum class Kind { kNone, kLinear, kYarn };
  Kind kind = Kind::kNone;
  double factor = 1;                     // context length over the original one
  double original_context = 0;           // kYarn: trained positions before scaling
  double beta_fast = 32, beta_slow = 1;  // kYarn: turns over the original context between which both rules mix
  double magnitude = 1;                  // kYarn: of cosines and sines, beside 1 + ln(factor) / 10
};

/// Which pairs of a head follow which axis. sections: pairs of time, height, width.
struct RopeSections {
  int64_t count[3] = {0, 0, 0};
  /// false: one section after another (Qwen2-VL). true: height takes pairs 1, 4, 7, ..., width 2, 5, 8, ..., as many as
  /// their sections say, and time all others (Qwen3-VL).
  bool interleaved = false;
};

/// Pair j turns by position[axis[j]] * frequency[j]; cosines and sines are multiplied by `magnitude`.
struct Rotation {
  enum Axis : uint8_t { kTime, kHeight, kWidth };
  std::vector<double> frequency;  // (head_dim / 2)
  std::vector<Axis> axis;         // (head_dim / 2); kTime past the sections
  double magnitude = 1;

  int64_t n_pairs() const { return static_cast<int64_t>(frequency.size()); }
};

/// Frequencies theta^(-2j / head_dim), scaled. kYarn: "YaRN: Efficient Context Window Extension", arXiv 2309.00071, as
/// _compute_yarn_parameters in transformers.
Rotation make_rotation(int64_t head_dim, double theta, const RopeSections& sections, const RopeScaling& scaling = {});

/// cos, sin: (positions.size(), n_pairs). Angles in double, rounded once.
void fill_mrope_table(std::span<const MropePosition> positions, const Rotation& rotation, float* cos, float* sin);

}  // namespace glimpse
