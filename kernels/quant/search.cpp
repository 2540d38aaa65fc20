#include "kernels/quant/search.h"

#include <algorithm>

namespace glimpse {
namespace {

// Candidates of a search are independent sums over the same elements: four of them run side by side, one per lane.
// That breaks the latency chain of the float additions without changing their order. A compiler vector type, because
// every x86-64 has 128-bit registers and no intrinsics are needed.
using Lanes = float __attribute__((vector_size(16)));
constexpr int kLanes = 4;

Lanes all(float value) {
  return Lanes{value, value, value, value};
}

/// round_clamped per lane, as float.
Lanes round_lanes(Lanes value, Lanes low, Lanes high) {
  const Lanes round = all(12582912.0f);
  value = value > low ? value : low;
  value = value < high ? value : high;
  return (value + round) - round;
}

/// Four candidate inverse scales of fit_affine, evaluated for one value of `low`.
struct AffineCandidates {
  Lanes levels[kMaxGroup];
  Lanes scale;
  Lanes min;
  Lanes error;  // meaningless where !solvable
  bool solvable[kLanes];
};

struct WeightedGroup {
  const float* x;
  const float* weights;
  int n;
  int max_level;
  float sum_w;
  float sum_wx;
};

Lanes weighted_error(const WeightedGroup& group, const AffineCandidates& c, bool absolute) {
  Lanes error = all(0);
  for (int i = 0; i < group.n; ++i) {
    Lanes diff = c.scale * c.levels[i] + c.min - all(group.x[i]);
    if (absolute) {
      diff = diff < all(0) ? -diff : diff;
    } else {
      diff *= diff;
    }
    error += all(group.weights[i]) * diff;
  }
  return error;
}

void evaluate(const WeightedGroup& group, Lanes inverse_scale, float low, bool absolute, AffineCandidates& c) {
  const Lanes zero = all(0);
  const Lanes top = all(static_cast<float>(group.max_level));
  Lanes sum_l = zero;
  Lanes sum_l2 = zero;
  Lanes sum_xl = zero;
  for (int i = 0; i < group.n; ++i) {
    const Lanes l = round_lanes(inverse_scale * all(group.x[i] - low), zero, top);
    const Lanes wl = all(group.weights[i]) * l;
    c.levels[i] = l;
    sum_l += wl;
    sum_l2 += wl * l;
    sum_xl += wl * all(group.x[i]);
  }
  // Normal equations of min over (scale, min) of sum w (scale l + min - x)^2.
  const Lanes sum_w = all(group.sum_w);
  const Lanes sum_wx = all(group.sum_wx);
  const Lanes determinant = sum_w * sum_l2 - sum_l * sum_l;
  c.scale = (sum_w * sum_xl - sum_wx * sum_l) / determinant;
  c.min = (sum_l2 * sum_wx - sum_l * sum_xl) / determinant;
  for (int lane = 0; lane < kLanes; ++lane) {
    c.solvable[lane] = determinant[lane] > 0;
    if (c.min[lane] > 0) {  // the formats cannot store a positive offset
      c.min[lane] = 0;
      c.scale[lane] = sum_xl[lane] / sum_l2[lane];
    }
  }
  c.error = weighted_error(group, c, absolute);
}

/// The error of the plain choice: levels spread from min to max.
float first_error(const WeightedGroup& group, float inverse_scale, float low, bool absolute, uint8_t* q) {
  const float scale = 1 / inverse_scale;
  float error = 0;
  for (int i = 0; i < group.n; ++i) {
    const int l = round_clamped(inverse_scale * (group.x[i] - low), 0, group.max_level);
    q[i] = static_cast<uint8_t>(l);
    const float diff = scale * static_cast<float>(l) + low - group.x[i];
    error += group.weights[i] * (absolute ? std::fabs(diff) : diff * diff);
  }
  return error;
}

}  // namespace

AffineFit fit_affine(const float* x, const float* weights, int n, int max_level, const AffineGrid& grid, uint8_t* q) {
  WeightedGroup group{x, weights, n, max_level, 0, 0};
  float low = x[0];
  float high = x[0];
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    group.sum_w += weights[i];
    group.sum_wx += weights[i] * x[i];
  }
  low = std::min(low, 0.0f);
  if (!(high > low)) {
    std::fill_n(q, n, uint8_t{0});
    return {0, -low};
  }
  const auto top = static_cast<float>(max_level);
  const float first_inverse = top / (high - low);
  AffineFit fit{1 / first_inverse, 0};
  float best = first_error(group, first_inverse, low, grid.absolute, q);

  // The range of the next candidates follows the last accepted min, so four are evaluated in advance and those after
  // an accepted one are evaluated again.
  AffineCandidates candidates;
  for (int t = 0; t <= grid.n_steps;) {
    Lanes inverse_scale;
    for (int lane = 0; lane < kLanes; ++lane) {
      inverse_scale[lane] = (grid.first + grid.step * static_cast<float>(t + lane) + top) / (high - low);
    }
    evaluate(group, inverse_scale, low, grid.absolute, candidates);
    const int n_candidates = std::min(kLanes, grid.n_steps + 1 - t);
    int lane = 0;
    while (lane < n_candidates && !(candidates.solvable[lane] && candidates.error[lane] < best)) ++lane;
    t += lane;
    if (lane == n_candidates) continue;
    for (int i = 0; i < n; ++i) q[i] = static_cast<uint8_t>(candidates.levels[i][lane]);
    best = candidates.error[lane];
    fit.scale = candidates.scale[lane];
    low = candidates.min[lane];
    ++t;
  }
  fit.min = -low;
  return fit;
}

float fit_symmetric(const float* x, const float* weights, int n, int half, uint8_t* q) {
  const float max = signed_max(x, n);
  if (!(std::fabs(max) >= kZeroGroup)) {
    std::fill_n(q, n, uint8_t{0});
    return 0;
  }
  // Candidates in the order in which they compete: the plain scale, then 0.1 level steps from -0.9 to 0.9.
  constexpr int kSteps = 9;
  constexpr int kCandidates = 1 + 2 * kSteps;
  constexpr int kPadded = (kCandidates + kLanes - 1) / kLanes * kLanes;
  float inverse_scales[kPadded];
  const auto top = static_cast<float>(half);
  for (int c = 0; c < kPadded; ++c) {
    const int t = c == 0 ? 0 : c <= kSteps ? c - kSteps - 1 : c - kSteps;
    inverse_scales[c] = -(top + 0.1f * static_cast<float>(t)) / max;
  }
  float scale = 0;
  float best = 0;
  int winner = 0;
  for (int first = 0; first < kPadded; first += kLanes) {
    Lanes inverse_scale;
    for (int lane = 0; lane < kLanes; ++lane) inverse_scale[lane] = inverse_scales[first + lane];
    Lanes sum_xl = all(0);
    Lanes sum_l2 = all(0);
    for (int i = 0; i < n; ++i) {
      const Lanes l = round_lanes(inverse_scale * all(x[i]), all(-top), all(top - 1));
      sum_xl += all(weights[i] * x[i]) * l;
      sum_l2 += all(weights[i]) * l * l;
    }
    for (int lane = 0; lane < kLanes && first + lane < kCandidates; ++lane) {
      const bool better = first + lane == 0 || sum_xl[lane] * sum_xl[lane] > best * sum_l2[lane];
      if (!(sum_l2[lane] > 0) || !better) continue;
      scale = sum_xl[lane] / sum_l2[lane];
      best = scale * sum_xl[lane];
      winner = first + lane;
    }
  }
  for (int i = 0; i < n; ++i) {
    q[i] = static_cast<uint8_t>(half + round_clamped(inverse_scales[winner] * x[i], -half, half - 1));
  }
  return scale;
}

float fit_symmetric_sweeps(const float* x, int n, int half, uint8_t* q) {
  const float max = signed_max(x, n);
  if (!(std::fabs(max) >= kZeroGroup)) {
    std::fill_n(q, n, uint8_t{0});
    return 0;
  }
  const float inverse_scale = -static_cast<float>(half) / max;
  int levels[kMaxGroup];
  float sum_xl = 0;
  float sum_l2 = 0;
  for (int i = 0; i < n; ++i) {
    levels[i] = round_clamped(inverse_scale * x[i], -half, half - 1);
    const float w = x[i] * x[i];
    const auto l = static_cast<float>(levels[i]);
    sum_xl += w * x[i] * l;
    sum_l2 += w * l * l;
  }
  constexpr int kMaxSweeps = 5;
  bool changed = true;
  for (int sweep = 0; sweep < kMaxSweeps && changed; ++sweep) {
    changed = false;
    for (int i = 0; i < n; ++i) {
      const float w = x[i] * x[i];
      const auto old_level = static_cast<float>(levels[i]);
      float rest_xl = sum_xl - w * x[i] * old_level;
      if (!(rest_xl > 0)) continue;
      float rest_l2 = sum_l2 - w * old_level * old_level;
      const int level = round_clamped(x[i] * rest_l2 / rest_xl, -half, half - 1);
      if (level == levels[i]) continue;
      const auto new_level = static_cast<float>(level);
      rest_xl += w * x[i] * new_level;
      rest_l2 += w * new_level * new_level;
      // sum_xl^2 / sum_l2 is what the best scale for these levels removes from the error.
      if (rest_l2 > 0 && rest_xl * rest_xl * sum_l2 > sum_xl * sum_xl * rest_l2) {
        levels[i] = level;
        sum_xl = rest_xl;
        sum_l2 = rest_l2;
        changed = true;
      }
    }
  }
  for (int i = 0; i < n; ++i) q[i] = static_cast<uint8_t>(levels[i] + half);
  return sum_l2 > 0 ? sum_xl / sum_l2 : 0.0f;
}

// The inverse of the scale with the least weighted error: top / max, or one of its neighbours.
static float search_inverse_scale(const float* x, const float* weights, int n, float max, int max_level) {
  const auto top = static_cast<float>(max_level);
  const auto error_of = [&](float inverse_scale) {
    const float scale = 1 / inverse_scale;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float diff = x[i] - scale * static_cast<float>(round_clamped(inverse_scale * x[i], 0, max_level));
      error += weights[i] * diff * diff;
    }
    return error;
  };
  float inverse_scale = top / max;
  float best = error_of(inverse_scale);
  for (int t = -4; t <= 4; ++t) {
    if (t == 0) continue;
    const float candidate = (0.1f * static_cast<float>(t) + top) / max;
    const float error = error_of(candidate);
    if (error < best) {
      best = error;
      inverse_scale = candidate;
    }
  }
  return inverse_scale;
}

float fit_positive(const float* x, const float* weights, int n, int max_level, uint8_t* q) {
  float max = 0;
  for (int i = 0; i < n; ++i) max = std::max(max, x[i]);
  if (!(max >= kZeroGroup)) {
    std::fill_n(q, n, uint8_t{0});
    return 0;
  }
  const float inverse_scale = search_inverse_scale(x, weights, n, max, max_level);
  float sum_xl = 0;
  float sum_l2 = 0;
  for (int i = 0; i < n; ++i) {
    q[i] = static_cast<uint8_t>(round_clamped(inverse_scale * x[i], 0, max_level));
    const auto l = static_cast<float>(q[i]);
    sum_xl += weights[i] * x[i] * l;
    sum_l2 += weights[i] * l * l;
  }
  constexpr int kMaxSweeps = 5;
  bool changed = true;
  for (int sweep = 0; sweep < kMaxSweeps && changed; ++sweep) {
    changed = false;
    for (int i = 0; i < n; ++i) {
      const float w = weights[i];
      const auto old_level = static_cast<float>(q[i]);
      float rest_xl = sum_xl - w * x[i] * old_level;
      float rest_l2 = sum_l2 - w * old_level * old_level;
      if (!(rest_xl > 0 && rest_l2 > 0)) continue;
      const int level = round_clamped(x[i] * rest_l2 / rest_xl, 0, max_level);
      if (level == q[i]) continue;
      const auto new_level = static_cast<float>(level);
      rest_xl += w * x[i] * new_level;
      rest_l2 += w * new_level * new_level;
      if (rest_xl * rest_xl * sum_l2 > sum_xl * sum_xl * rest_l2) {
        q[i] = static_cast<uint8_t>(level);
        sum_xl = rest_xl;
        sum_l2 = rest_l2;
        changed = true;
      }
    }
  }
  return sum_l2 > 0 ? sum_xl / sum_l2 : 0.0f;
}

}  // namespace glimpse
