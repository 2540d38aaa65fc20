#include "engine/model/rotation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace glimpse {
namespace {

// Pairs below the first keep their frequency, those above the second are slowed by the factor.
struct Ramp {
  double first, second;

  Ramp(int64_t head_dim, double theta, const RopeScaling& s) {
    const auto dim = static_cast<double>(head_dim);
    // The pair that makes so many turns over the original context.
    const auto pair_of = [&](double turns) {
      return dim * std::log(s.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
    };
    first = std::max(0.0, std::floor(pair_of(s.beta_fast)));
    second = std::min(dim - 1, std::ceil(pair_of(s.beta_slow)));
    if (first == second) second += 0.001;
  }
  double at(int64_t pair) const { return std::clamp((static_cast<double>(pair) - first) / (second - first), 0.0, 1.0); }
};

Rotation::Axis axis_of(int64_t pair, const RopeSections& s) {
  if (s.interleaved) {
    if (pair % 3 == 1 && pair < 3 * s.count[1]) return Rotation::kHeight;
    if (pair % 3 == 2 && pair < 3 * s.count[2]) return Rotation::kWidth;
    return Rotation::kTime;
  }
  const int64_t height = s.count[0], width = height + s.count[1], end = width + s.count[2];
  return pair < height || pair >= end ? Rotation::kTime : pair < width ? Rotation::kHeight : Rotation::kWidth;
}

}  // namespace

Rotation make_rotation(int64_t head_dim, double theta, const RopeSections& sections, const RopeScaling& scaling) {
  Rotation rotation;
  const bool yarn = scaling.kind == RopeScaling::Kind::kYarn;
  for (int64_t j = 0; j < head_dim / 2; ++j) {
    // The frequency belongs to the pair; it does not start again where a section starts.
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(j) / static_cast<double>(head_dim));
    const double slowed = yarn                                         ? Ramp(head_dim, theta, scaling).at(j)
                          : scaling.kind == RopeScaling::Kind::kLinear ? 1.0
                                                                       : 0.0;
    rotation.frequency.push_back(frequency * (1 - slowed) + frequency / scaling.factor * slowed);
    rotation.axis.push_back(axis_of(j, sections));
  }
  if (yarn) rotation.magnitude = scaling.magnitude * (1 + 0.1 * std::log(std::max(1.0, scaling.factor)));
  return rotation;
}

void fill_mrope_table(std::span<const MropePosition> positions, const Rotation& rotation, float* cos, float* sin) {
  const int64_t half = rotation.n_pairs();
  for (int64_t j = 0; j < half; ++j) {
    const double frequency = rotation.frequency[static_cast<size_t>(j)];
    const Rotation::Axis axis = rotation.axis[static_cast<size_t>(j)];
    for (size_t i = 0; i < positions.size(); ++i) {
      const MropePosition& p = positions[i];
      const int32_t position = axis == Rotation::kTime ? p.t : axis == Rotation::kHeight ? p.h : p.w;
      const double angle = position * frequency;
      cos[static_cast<int64_t>(i) * half + j] = static_cast<float>(rotation.magnitude * std::cos(angle));
      sin[static_cast<int64_t>(i) * half + j] = static_cast<float>(rotation.magnitude * std::sin(angle));
    }
  }
}

}  // namespace glimpse
