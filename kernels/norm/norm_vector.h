// Norms of a row for any vector width, with the same bits. Internal linkage.
//
// S: a vector type of kernels/simd. W: the same width in doubles, 16 at a time in kParts<W> parts; lane l takes the
// elements l, 16 + l, ..., and total() adds lanes 8 apart, then 4, 2 and 1.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace glimpse {
namespace {

// Vectors of W for 16 doubles.
template <class W>
constexpr int kParts = 16 * sizeof(double) / sizeof(typename W::D);

// out = x scale weight.
template <class S>
inline void scale_row(const float* x, const float* weight, double scale, int64_t n, float* out) {
  const typename S::F by = S::set_f(static_cast<float>(scale));
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F v = S::mul(S::load_row(x + i, n - i), by);
    S::store_row(out + i, n - i, S::mul(v, S::load_row(weight + i, n - i)));
  }
}

// out = (x - mean) scale weight + bias. The mean in two floats: a mean far above the deviation must not eat its digits.
template <class S>
inline void center_row(const float* x, const float* weight, const float* bias, double mean, double scale, int64_t n,
                       float* out) {
  const typename S::F by = S::set_f(static_cast<float>(scale));
  const float high = static_cast<float>(mean);
  const typename S::F m0 = S::set_f(high), m1 = S::set_f(static_cast<float>(mean - static_cast<double>(high)));
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F v = S::sub(S::sub(S::load_row(x + i, n - i), m0), m1);
    const typename S::F w = S::load_row(weight + i, n - i);
    S::store_row(out + i, n - i, S::fma(S::mul(v, by), w, S::load_row(bias + i, n - i)));
  }
}

inline double reciprocal_root(double x) {
  const __m128d v = _mm_set_sd(x);
  return 1.0 / _mm_cvtsd_f64(_mm_sqrt_sd(v, v));
}

template <class W>
struct Sums {
  typename W::D part[kParts<W>] = {};
};

template <class S, class W>
inline void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  Sums<W> sums;
  for (int64_t i = 0; i < n; i += 16) {
    typename W::D v[kParts<W>];
    W::load(x + i, n - i, v);
    for (int j = 0; j < kParts<W>; ++j) sums.part[j] = W::fma(v[j], v[j], sums.part[j]);
  }
  const double mean = W::total(sums.part) / static_cast<double>(n);
  scale_row<S>(x, weight, reciprocal_root(mean + static_cast<double>(eps)), n, out);
}

template <class S, class W>
inline void layer_norm(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) {
  Sums<W> sums, squares;
  for (int64_t i = 0; i < n; i += 16) {
    typename W::D v[kParts<W>];
    W::load(x + i, n - i, v);
    for (int j = 0; j < kParts<W>; ++j) sums.part[j] = W::add(sums.part[j], v[j]);
  }
  const double mean = W::total(sums.part) / static_cast<double>(n);
  for (int64_t i = 0; i < n; i += 16) {
    typename W::D v[kParts<W>];
    W::load(x + i, n - i, v);
    for (int j = 0; j < kParts<W>; ++j) {
      const typename W::D apart = W::sub_below(v[j], mean, n - i, j);
      squares.part[j] = W::fma(apart, apart, squares.part[j]);
    }
  }
  const double variance = W::total(squares.part) / static_cast<double>(n);
  center_row<S>(x, weight, bias, mean, reciprocal_root(variance + static_cast<double>(eps)), n, out);
}

}  // namespace
}  // namespace glimpse

// The functions of norm_isa.h for one instruction set: its vector type and its doubles.
#define GLIMPSE_DEFINE_NORMS(isa, S, W)                                                                             \
  void rms_norm_##isa(const float* x, const float* weight, float eps, int64_t n, float* out) {                      \
    rms_norm<S, W>(x, weight, eps, n, out);                                                                         \
  }                                                                                                                 \
  void layer_norm_##isa(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out) { \
    layer_norm<S, W>(x, weight, bias, eps, n, out);                                                                 \
  }
