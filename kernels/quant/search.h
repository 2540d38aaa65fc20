// The least-squares searches that choose scales for the K, IQ4 and importance-weighted quantisers.
// Source: the method of ggml-quants.c (make_qx_quants, make_q3_quants, make_qkx2/3_quants, make_qp_quants). Each
// candidate's sums run over the elements in order and in float, as there, so that the same candidate wins.
#pragma once

#include <cmath>
#include <cstdint>

namespace glimpse {

inline constexpr int kMaxGroup = 32;         // longest group a search takes
inline constexpr float kZeroGroup = 1e-15f;  // a group whose largest magnitude is below counts as all zero

/// Clamps to [low, high] and rounds half to even. NaN gives low: no input makes the conversion to int undefined.
inline int round_clamped(float value, int low, int high) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no bits below the units
  const auto floor = static_cast<float>(low);
  const auto ceiling = static_cast<float>(high);
  value = value > floor ? value : floor;
  value = value < ceiling ? value : ceiling;
  return static_cast<int>((value + kRound) - kRound);
}

/// The element of largest magnitude, with its sign; the first of equals; 0 when n is 0 or all are 0 or NaN.
inline float signed_max(const float* x, int n) {
  float max = 0;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(max)) max = x[i];
  }
  return max;
}

/// x ~ scale * q - min with q in 0..max_level and min >= 0.
struct AffineFit {
  float scale;
  float min;
};

/// Inverse scales to try: (first + step * t + max_level) / (max - min), t = 0..n_steps.
struct AffineGrid {
  float first;
  float step;
  int n_steps;
  bool absolute;  // the error is w |x - y| rather than w (x - y)^2
};

/// Chooses scale, min and q (n quants, 0..max_level) of a group. weights: n values >= 0. n <= kMaxGroup.
AffineFit fit_affine(const float* x, const float* weights, int n, int max_level, const AffineGrid& grid, uint8_t* q);

/// Chooses the scale of x ~ scale * (q - half), q in 0..2 half - 1, and fills q. weights: n values >= 0, n <=
/// kMaxGroup. An all-zero group gets scale 0 and q 0.
float fit_symmetric(const float* x, const float* weights, int n, int half, uint8_t* q);

/// As fit_symmetric with weights x^2, improving one quant at a time instead of trying scales.
float fit_symmetric_sweeps(const float* x, int n, int half, uint8_t* q);

/// Chooses the scale of x ~ scale * q for x >= 0, q in 0..max_level, and fills q. weights: n values >= 0.
float fit_positive(const float* x, const float* weights, int n, int max_level, uint8_t* q);

}  // namespace glimpse
