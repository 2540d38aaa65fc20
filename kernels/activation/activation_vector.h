// The activations for any vector width. Included by activation_avx2.cpp and activation_avx512.cpp, each with its own
// vector type S of kernels/simd; everything has internal linkage.
//
// All of them are x times a weight in [0, 1] that is built from e^-|z|, never from e^|z|: nothing overflows and the
// weight keeps its relative accuracy in the left tail.
#pragma once

#include <cstdint>

#include "kernels/activation/activation.h"

namespace glimpse {
namespace {

// A factor for exp2_scaled: the float next to it and the rest.
struct Scale {
  float high, low;
};
constexpr Scale make_scale(double value) {
  const float high = static_cast<float>(value);
  return {high, static_cast<float>(value - static_cast<double>(high))};
}
constexpr double kLog2E = 1.4426950408889634;
constexpr Scale kSigmoid = make_scale(kLog2E);
constexpr Scale kQuickGelu = make_scale(1.702 * kLog2E);
constexpr Scale kMinusHalf = make_scale(-0.5 * kLog2E);
constexpr float kMaxFloat = 0x1.fffffep127f;

// x sigmoid(x * scale), given e = e^-|x scale|: the weight is 1 / (1 + e) on the right, e / (1 + e) on the left.
template <class S>
inline typename S::F sigmoid_weighted(typename S::F x, typename S::F e) {
  const typename S::F one = S::set_f(1.0f);
  // -infinity becomes the lowest float, because -infinity times zero would be NaN.
  const typename S::F finite = S::max(S::set_f(-kMaxFloat), x);
  return S::mul(finite, S::div(S::if_negative(x, e, one), S::add(one, e)));
}

// e^-|x| cut at |x scale| = 160 (the result is zero from 150 on); NaN stays.
template <class S>
inline typename S::F exp_minus_abs(typename S::F x, Scale scale) {
  const typename S::F a = S::min(S::set_f(160.0f / scale.high), S::abs(x));
  return S::exp2_scaled(a, -scale.high, -scale.low);
}

struct Silu {
  template <class S>
  static inline typename S::F apply(typename S::F x) {
    return sigmoid_weighted<S>(x, exp_minus_abs<S>(x, kSigmoid));
  }
};

struct QuickGelu {
  template <class S>
  static inline typename S::F apply(typename S::F x) {
    return sigmoid_weighted<S>(x, exp_minus_abs<S>(x, kQuickGelu));
  }
};

// sigmoid(2 u) with 2 u log2(e) = x (a + b x^2).
struct GeluTanh {
  template <class S>
  static inline typename S::F apply(typename S::F x) {
    constexpr double kA = 1.5957691216057308 * kLog2E;
    const typename S::F t = S::min(S::set_f(11.0f), S::abs(x));  // 2^-163 at 11
    const typename S::F factor =
        S::fma(S::mul(t, t), S::set_f(static_cast<float>(-0.044715 * kA)), S::set_f(static_cast<float>(-kA)));
    return sigmoid_weighted<S>(x, S::exp2_product(t, factor));
  }
};

// Phi(-a) = e^(-a^2 / 2) g(a), g(a) = erfcx(a / sqrt(2)) / 2, for a = |x|; g as a polynomial in t = 1 / (1 + 9/32 a):
// minimax of the relative error on [0, 14.5], 6e-8, with float arithmetic 3.3e-7. The square is carried in two parts,
// since its rounding would cost up to 100 * 2^-24. The weight is Phi(-a) on the left and 1 - Phi(-a) on the right.
struct GeluErf {
  template <class S>
  static inline typename S::F apply(typename S::F x) {
    constexpr float kG[9] = {0.11218594014644623f, 0.11250309646129608f,  0.10115616768598557f,
                             0.09326472878456116f, 0.049349334090948105f, 0.02817368507385254f,
                             0.06008876860141754f, -0.07883227616548538f, 0.022110590711236f};
    const typename S::F one = S::set_f(1.0f);
    const typename S::F a = S::min(S::set_f(14.5f), S::abs(x));  // Phi(-14.5) = 6e-48
    const typename S::F t = S::div(one, S::fma(a, S::set_f(0.28125f), one));
    typename S::F g = S::set_f(kG[8]);
    for (int i = 7; i >= 0; --i) g = S::fma(g, t, S::set_f(kG[i]));
    const typename S::F square = S::mul(a, a);
    const typename S::F rest = S::fms(a, a, square);
    const typename S::F e = S::exp2_scaled(square, kMinusHalf.high, kMinusHalf.low);
    const typename S::F tail = S::mul(S::mul(S::mul(g, t), S::fma(rest, S::set_f(-0.5f), one)), e);
    const typename S::F finite = S::max(S::set_f(-kMaxFloat), x);
    return S::mul(finite, S::if_negative(x, tail, S::sub(one, tail)));
  }
};

template <class S>
inline void swiglu_row(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F z = Silu::apply<S>(S::load_row(gate + i, n - i));
    S::store_row(out + i, n - i, S::mul(z, S::load_row(up + i, n - i)));
  }
}

struct Identity {
  template <class S>
  static inline typename S::F apply(typename S::F x) {
    return x;
  }
};

// out = F(tile + bias), or out += tile + bias.
template <class S, class F, bool Add>
inline void finish_tile(const ProductTile& tile, float* out, int64_t ld_out) {
  for (int64_t c = 0; c < tile.n_columns; ++c) {
    const float* values = tile.values + c * tile.ld;
    float* to = out + c * ld_out;
    for (int64_t i = 0; i < tile.n_rows; i += S::kLanes) {
      const int64_t count = tile.n_rows - i;
      typename S::F x = S::load_row(values + i, count);
      if (tile.bias != nullptr) x = S::add(x, S::load_row(tile.bias + i, count));
      x = F::template apply<S>(x);
      S::store_row(to + i, count, Add ? S::add(S::load_row(to + i, count), x) : x);
    }
  }
}

template <class S>
inline void store_tile_of(const ProductTile& tile, Activation activation, float* out, int64_t ld_out) {
  switch (activation) {
    case Activation::kNone:
      return finish_tile<S, Identity, false>(tile, out, ld_out);
    case Activation::kQuickGelu:
      return finish_tile<S, QuickGelu, false>(tile, out, ld_out);
    case Activation::kGeluErf:
      return finish_tile<S, GeluErf, false>(tile, out, ld_out);
    case Activation::kGeluTanh:
      return finish_tile<S, GeluTanh, false>(tile, out, ld_out);
    case Activation::kSilu:
      return finish_tile<S, Silu, false>(tile, out, ld_out);
  }
}

template <class S>
inline void add_row(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += S::kLanes) {
    S::store_row(y + i, n - i, S::add(S::load_row(y + i, n - i), S::load_row(x + i, n - i)));
  }
}

}  // namespace
}  // namespace glimpse

// The functions of activation_isa.h for one instruction set and its vector type.
#define GLIMPSE_DEFINE_ACTIVATIONS(isa, S)                                                            \
  void swiglu_##isa(const float* gate, const float* up, int64_t n, float* out) {                      \
    swiglu_row<S>(gate, up, n, out);                                                                  \
  }                                                                                                   \
  void add_##isa(const float* x, int64_t n, float* y) {                                               \
    add_row<S>(x, n, y);                                                                              \
  }                                                                                                   \
  void store_tile_##isa(const ProductTile& tile, Activation activation, float* out, int64_t ld_out) { \
    store_tile_of<S>(tile, activation, out, ld_out);                                                  \
  }                                                                                                   \
  void add_tile_##isa(const ProductTile& tile, float* out, int64_t ld_out) {                          \
    finish_tile<S, Identity, true>(tile, out, ld_out);                                                \
  }
