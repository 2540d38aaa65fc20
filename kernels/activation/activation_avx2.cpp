// Activations for AVX2.
#include <immintrin.h>

#include "kernels/activation/activation_isa.h"
#include "kernels/activation/activation_vector.h"
#include "kernels/simd/exp2_avx2.h"
#include "kernels/simd/row_avx2.h"

namespace glimpse {
namespace {

struct Avx2 {
  using V = __m256;
  static constexpr int64_t kLanes = 8;

  static inline V load(const float* p, int64_t count) { return load_row_avx2(p, count); }
  static inline void store(float* p, int64_t count, V x) { store_row_avx2(p, count, x); }
  static inline V broadcast(float x) { return _mm256_set1_ps(x); }
  static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
  static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static inline V div(V a, V b) { return _mm256_div_ps(a, b); }
  static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static inline V fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
  // min and max return their second operand when one is NaN.
  static inline V min(V limit, V x) { return _mm256_min_ps(limit, x); }
  static inline V max(V limit, V x) { return _mm256_max_ps(limit, x); }
  static inline V abs(V x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
  static inline V if_negative(V x, V a, V b) { return _mm256_blendv_ps(b, a, x); }
  static inline V exp2_scaled(V x, float high, float low) { return exp2_scaled_avx2(x, high, low); }
  static inline V exp2_product(V a, V b) { return exp2_product_avx2(a, b); }
};

}  // namespace

void swiglu_avx2(const float* gate, const float* up, int64_t n, float* out) {
  swiglu_row<Avx2>(gate, up, n, out);
}
void quick_gelu_avx2(float* x, int64_t n) {
  apply_row<Avx2, QuickGelu>(x, n);
}
void gelu_erf_avx2(float* x, int64_t n) {
  apply_row<Avx2, GeluErf>(x, n);
}
void gelu_tanh_avx2(float* x, int64_t n) {
  apply_row<Avx2, GeluTanh>(x, n);
}
void silu_avx2(float* x, int64_t n) {
  apply_row<Avx2, Silu>(x, n);
}
void add_avx2(const float* x, int64_t n, float* y) {
  add_row<Avx2>(x, n, y);
}
void store_tile_avx2(const ProductTile& tile, Activation activation, float* out, int64_t ld_out) {
  store_tile_of<Avx2>(tile, activation, out, ld_out);
}
void add_tile_avx2(const ProductTile& tile, float* out, int64_t ld_out) {
  finish_tile<Avx2, Identity, true>(tile, out, ld_out);
}

}  // namespace glimpse
