// Conversion of activations, for 512-bit and 256-bit vectors alike: the arithmetic of quantize_act_ref (act.cpp), so
// the same bits. Q adds to Vec512 or Vec256 what is needed here. Included only by ISA-specific files; internal linkage.
#pragma once

#include <immintrin.h>

#include "kernels/matmul/act_mix.h"
#include "kernels/matmul/act_view.h"
#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

template <class Q>
GLIMPSE_INLINE void convert_f32(const ActView& view, std::byte* record, const float* x) {
  __builtin_memcpy(record, x, static_cast<uint64_t>(view.k) * 4);
  __builtin_memset(record + view.k * 4, 0, static_cast<uint64_t>(view.k_padded - view.k) * 4);
}

/// The first `have` of n floats; the others are zero.
GLIMPSE_INLINE const float* padded(const float* x, int64_t have, int64_t n, float* buffer) {
  if (have >= n) return x;
  for (int64_t i = 0; i < n; ++i) buffer[i] = i < have ? x[i] : 0.0f;
  return buffer;
}

template <class Q>
GLIMPSE_INLINE void convert_bf16(const ActView& view, std::byte* record, const float* x) {
  float buffer[32];
  for (int64_t i = 0; i < view.k_padded; i += 32) {
    const float* from = padded(x + (i < view.k ? i : 0), view.k - i, 32, buffer);
    for (int j = 0; j < 32; j += Q::kLanes) Q::store_bf16(record + 2 * (i + j), Q::load(from + j));
  }
}

/// mix_block(): from 32 floats to 32 others, which may be the same.
template <class Q>
GLIMPSE_INLINE void mix32(const float* x, float* to) {
  using F = typename Q::F;
  constexpr int n = 32 / Q::kLanes;
  F v[n];
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    v[i] = Q::mul(Q::load_f(x + Q::kLanes * i), Q::load_f(kMixFirst + Q::kLanes * i % 16));
    v[i] = Q::fma(v[i], Q::load_f(kMixStep[0]), Q::template partner<1>(v[i]));
    v[i] = Q::fma(v[i], Q::load_f(kMixStep[1]), Q::template partner<2>(v[i]));
    v[i] = Q::fma(v[i], Q::load_f(kMixStep[2]), Q::template partner<4>(v[i]));
    if constexpr (Q::kLanes == 16) v[i] = Q::fma(v[i], Q::load_f(kMixStep[3]), Q::template partner<8>(v[i]));
  }
#pragma GCC unroll 2
  for (int step = 1; step < n; step *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) {
      if ((i & step) != 0) continue;
      const F a = v[i], b = v[i + step];
      v[i] = Q::add(a, b);
      v[i + step] = Q::sub(a, b);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) Q::store_f(to + Q::kLanes * i, v[i]);
}

/// Lane b: what op makes of all lanes of v[b].
template <class Q, class Op>
GLIMPSE_INLINE __m256i reduce8(const typename Q::I (&v)[8], Op op) {
  __m256i h[8], q[4], e[2];
#pragma GCC unroll 8
  for (int b = 0; b < 8; ++b) h[b] = Q::fold(v[b], op);
#pragma GCC unroll 4
  for (int b = 0; b < 4; ++b) {
    q[b] = op(_mm256_unpacklo_epi32(h[2 * b], h[2 * b + 1]), _mm256_unpackhi_epi32(h[2 * b], h[2 * b + 1]));
  }
#pragma GCC unroll 2
  for (int b = 0; b < 2; ++b) {
    e[b] = op(_mm256_unpacklo_epi64(q[2 * b], q[2 * b + 1]), _mm256_unpackhi_epi64(q[2 * b], q[2 * b + 1]));
  }
  return op(_mm256_permute2x128_si256(e[0], e[1], 0x20), _mm256_permute2x128_si256(e[0], e[1], 0x31));
}
constexpr auto kAdd8 = [](__m256i a, __m256i b) GLIMPSE_INLINE_LAMBDA { return _mm256_add_epi32(a, b); };
constexpr auto kMax8 = [](__m256i a, __m256i b) GLIMPSE_INLINE_LAMBDA { return _mm256_max_epi32(a, b); };

GLIMPSE_INLINE void store8(std::byte* to, __m256i v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v);
}

/// How 8 blocks of 32 values become int8: lane b is block b's.
struct BlockScales {
  alignas(32) float inverse[8];
  alignas(32) int32_t usable[8];  // all ones, or zero: the block's values become zero
};

/// From the greatest magnitudes' bits: scales (at view.scales_at) and what values are multiplied with.
template <ActFormat format>
GLIMPSE_INLINE BlockScales block_scales(__m256i largest, std::byte* scales) {
  if constexpr (format == ActFormat::kInt8x128K) {  // of 128: of four lanes
    largest = kMax8(largest, _mm256_shuffle_epi32(largest, 0x4e));
    largest = kMax8(largest, _mm256_shuffle_epi32(largest, 0xb1));
  }
  const __m256i not_tiny = _mm256_cmpgt_epi32(largest, _mm256_set1_epi32((27 << 23) - 1));
  const __m256i not_finite = _mm256_cmpgt_epi32(largest, _mm256_set1_epi32(0x7f7fffff));
  const __m256i usable = _mm256_andnot_si256(not_finite, not_tiny);
  const __m256 max = _mm256_castsi256_ps(largest), most = _mm256_set1_ps(127.0f), keep = _mm256_castsi256_ps(usable);
  const __m256 nan = _mm256_castsi256_ps(_mm256_and_si256(not_finite, _mm256_set1_epi32(0x7fc00000)));
  const __m256 scale = _mm256_or_ps(_mm256_and_ps(_mm256_div_ps(max, most), keep), nan);
  BlockScales out;
  _mm256_store_ps(out.inverse, _mm256_and_ps(_mm256_div_ps(most, max), keep));
  store8(reinterpret_cast<std::byte*>(out.usable), usable);
  if constexpr (format == ActFormat::kInt8x128K) {
    const __m256 pair = _mm256_permutevar8x32_ps(scale, _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
    _mm_storel_pi(reinterpret_cast<__m64*>(scales), _mm256_castps256_ps128(pair));
  } else {
    store8(scales, _mm256_castps_si256(scale));
  }
  return out;
}

/// The sums of a kInt8x128K record for 256 values from `first` on. sums[h]: of half h of each block of 32.
GLIMPSE_INLINE void store_sums(const ActView& view, std::byte* record, int64_t first, const __m256i (&sums)[2]) {
  const __m256i low = _mm256_unpacklo_epi32(sums[0], sums[1]), high = _mm256_unpackhi_epi32(sums[0], sums[1]);
  const __m256i a = _mm256_permute2x128_si256(low, high, 0x20), b = _mm256_permute2x128_si256(low, high, 0x31);
  const __m256i minus128 = _mm256_set1_epi32(-128), all = kAdd8(sums[0], sums[1]);
  store8(record + view.bias16_at + first / 4, _mm256_mullo_epi32(a, minus128));
  store8(record + view.bias16_at + first / 4 + 32, _mm256_mullo_epi32(b, minus128));
  store8(record + view.sums16_at + first / 8, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(all, all), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(record + view.sums32_at + first / 16), _mm256_castsi256_si128(words));
}

/// 256 values at value `first` of the record. Eight blocks of 32 at once: what one block's values have to be reduced to
/// would take as long as all the rest.
template <class Q, ActFormat format>
GLIMPSE_INLINE void convert_int8_256(const ActView& view, std::byte* record, int64_t first, const float* x) {
  using I = typename Q::I;
  I largest[8];
#pragma GCC unroll 8
  for (int b = 0; b < 8; ++b) {
    largest[b] = Q::zero();
#pragma GCC unroll 4
    for (int i = 32 * b; i < 32 * (b + 1); i += Q::kLanes) {
      largest[b] = Q::max32(largest[b], Q::and_(Q::load(x + i), Q::set32(0x7fffffff)));
    }
  }
  constexpr int64_t scaled = format == ActFormat::kInt8x128K ? 128 : 32;
  const BlockScales by = block_scales<format>(reduce8<Q>(largest, kMax8), record + view.scales_at + first / scaled * 4);
  I sums[2][8];
#pragma GCC unroll 8
  for (int b = 0; b < 8; ++b) {
    Q::quantize32(record + first + 32 * b, x + 32 * b, Q::broadcast_f(by.inverse + b), Q::broadcast32(by.usable + b),
                  sums[0][b], sums[1][b]);
  }
  if constexpr (format == ActFormat::kInt8x128K) {
    const __m256i halves[2] = {reduce8<Q>(sums[0], kAdd8), reduce8<Q>(sums[1], kAdd8)};
    store_sums(view, record, first, halves);
    store8(record + view.bias32_at + first / 8,
           _mm256_mullo_epi32(kAdd8(halves[0], halves[1]), _mm256_set1_epi32(-128)));
  } else {
#pragma GCC unroll 8
    for (int b = 0; b < 8; ++b) sums[0][b] = Q::add32(sums[0][b], sums[1][b]);
    store8(record + view.bias32_at + first / 8,
           _mm256_mullo_epi32(reduce8<Q>(sums[0], kAdd8), _mm256_set1_epi32(-128)));
  }
}

template <class Q, ActFormat format>
GLIMPSE_INLINE void convert_int8(const ActView& view, std::byte* record, const float* x) {
  alignas(64) float buffer[256];
  for (int64_t i = 0; i < view.k_padded; i += 256) {
    const float* from = padded(x + (i < view.k ? i : 0), view.k - i, 256, buffer);
    if constexpr (format == ActFormat::kInt8x32Mixed) {
      for (int b = 0; b < 256; b += 32) mix32<Q>(from + b, buffer + b);
      from = buffer;
    }
    convert_int8_256<Q, format>(view, record, i, from);
  }
}

template <class Q>
GLIMPSE_INLINE void convert_row(const ActView& view, int64_t column, const float* x) {
  std::byte* record = view.data + column * view.row_bytes;
  switch (view.format) {
    case ActFormat::kF32:
      return convert_f32<Q>(view, record, x);
    case ActFormat::kBf16:
      return convert_bf16<Q>(view, record, x);
    case ActFormat::kInt8x32:
      return convert_int8<Q, ActFormat::kInt8x32>(view, record, x);
    case ActFormat::kInt8x32Mixed:
      return convert_int8<Q, ActFormat::kInt8x32Mixed>(view, record, x);
    case ActFormat::kInt8x128K:
      return convert_int8<Q, ActFormat::kInt8x128K>(view, record, x);
  }
}

}  // namespace
}  // namespace glimpse
