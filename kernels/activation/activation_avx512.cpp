// Activations for AVX-512.
#include <immintrin.h>

#include "kernels/activation/activation_isa.h"
#include "kernels/activation/activation_vector.h"
#include "kernels/simd/exp2_avx512.h"
#include "kernels/simd/row_avx512.h"

namespace glimpse {
namespace {

struct Avx512 {
  using V = __m512;
  static constexpr int64_t kLanes = 16;

  static inline V load(const float* p, int64_t count) { return load_row_avx512(p, count); }
  static inline void store(float* p, int64_t count, V x) { store_row_avx512(p, count, x); }
  static inline V broadcast(float x) { return _mm512_set1_ps(x); }
  static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
  static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static inline V div(V a, V b) { return _mm512_div_ps(a, b); }
  static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static inline V fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
  // min and max return their second operand when one is NaN.
  static inline V min(V limit, V x) { return _mm512_min_ps(limit, x); }
  static inline V max(V limit, V x) { return _mm512_max_ps(limit, x); }
  static inline V abs(V x) { return _mm512_abs_ps(x); }
  static inline V if_negative(V x, V a, V b) {
    return _mm512_mask_mov_ps(b, _mm512_movepi32_mask(_mm512_castps_si512(x)), a);
  }
  static inline V exp2_scaled(V x, float high, float low) { return exp2_scaled_avx512(x, high, low); }
  static inline V exp2_product(V a, V b) { return exp2_product_avx512(a, b); }
};

}  // namespace

void swiglu_avx512(const float* gate, const float* up, int64_t n, float* out) {
  swiglu_row<Avx512>(gate, up, n, out);
}
void quick_gelu_avx512(float* x, int64_t n) {
  apply_row<Avx512, QuickGelu>(x, n);
}
void gelu_erf_avx512(float* x, int64_t n) {
  apply_row<Avx512, GeluErf>(x, n);
}
void gelu_tanh_avx512(float* x, int64_t n) {
  apply_row<Avx512, GeluTanh>(x, n);
}
void silu_avx512(float* x, int64_t n) {
  apply_row<Avx512, Silu>(x, n);
}
void add_avx512(const float* x, int64_t n, float* y) {
  add_row<Avx512>(x, n, y);
}
void store_tile_avx512(const ProductTile& tile, Activation activation, float* out, int64_t ld_out) {
  store_tile_of<Avx512>(tile, activation, out, ld_out);
}
void add_tile_avx512(const ProductTile& tile, float* out, int64_t ld_out) {
  finish_tile<Avx512, Identity, true>(tile, out, ld_out);
}

}  // namespace glimpse
