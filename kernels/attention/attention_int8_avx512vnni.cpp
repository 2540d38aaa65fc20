// Attention on an int8 segment for AVX-512 VNNI: vpdpbusd does four products per lane where vdpbf16ps does two. The
// float steps between scores and output would take half of the time then, so they are short: the exponential has the
// precision of weights of 8 bits, and weights are packed without leaving their quarter of the vector.
#include <immintrin.h>

#include "kernels/attention/attention_int8.h"
#include "kernels/attention/attention_isa.h"
#include "kernels/simd/row_avx512.h"

namespace glimpse {
namespace {

// Not the unmasked intrinsics: GCC 12 calls their undefined pass-through uninitialised.
inline __m512 to_float(__m512i x) {
  return _mm512_maskz_cvtepi32_ps(0xffff, x);
}
inline __m512i broadcast_word(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}
// acc + products of four unsigned bytes of a with four signed ones of b. As assembly: GCC 12 copies the accumulator of
// the intrinsic to and fro, and runs out of registers.
inline __m512i dot4(__m512i acc, __m512i a, __m512i b) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "vm"(b));
  return acc;
}
inline float query_scale(const std::byte* row, int64_t d) {
  float scale;
  __builtin_memcpy(&scale, row + d, sizeof scale);
  return scale;
}

// scores (R, 256) = float(q . k) * scale of the key, for the first n_keys keys, a multiple of 64. best: the greatest
// score in each lane of the first n_whole keys, which every row sees.
template <int D, int R>
void score_tile(const std::byte* queries, int64_t d_any, const std::byte* block, int64_t n_keys, int64_t n_whole,
                float* scores, __m512 (&best)[R]) {
  constexpr int kVectors = R <= 2 ? 4 : 2;  // chains enough to hide the latency
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) best[r] = _mm512_set1_ps(-__builtin_inff());
  const int64_t d = D != 0 ? D : d_any, row_bytes = int8_query_bytes(d);
  const auto* scales = reinterpret_cast<const float*>(block);
  const std::byte* keys = block + kKeyBlock * 4;
  for (int64_t k = 0; k < n_keys; k += 16 * kVectors) {
    __m512i dot[R][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i start = broadcast_word(queries + r * row_bytes + d + 4);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) dot[r][v] = start;
    }
    const std::byte* panel = keys + k * d;
    for (int64_t i = 0; i < d; i += 4) {
      __m512i key[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) key[v] = _mm512_load_si512(panel + (v * d + i) * 16);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512i query = broadcast_word(queries + r * row_bytes + i);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) dot[r][v] = dot4(dot[r][v], key[v], query);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512 scale = _mm512_load_ps(scales + k + 16 * v);
      const __mmask16 seen = k + 16 * v < n_whole ? 0xffff : 0;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512 score = _mm512_mul_ps(to_float(dot[r][v]), scale);
        best[r] = _mm512_mask_max_ps(best[r], seen, best[r], score);
        _mm512_store_ps(scores + r * kKeyBlock + k + 16 * v, score);
      }
    }
  }
}

inline float row_max(__m512 max, const float* scores, int64_t first, int64_t n_visible) {
  for (int64_t k = first; k < n_visible; k += 16) {
    const __mmask16 seen = lanes_below_avx512(n_visible - k);
    max = _mm512_mask_max_ps(max, seen, max, _mm512_load_ps(scores + k));
  }
  return _mm512_reduce_max_ps(max);
}

// 255 * 2^(scale * (score - max)) as integers; far below, the power of two becomes zero by itself.
inline __m512i weights(__m512 scores, __m512 scale, __m512 offset) {
  const __m512 x = _mm512_fmadd_ps(scores, scale, offset);
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, n);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(kWeightC3), f, _mm512_set1_ps(kWeightC2));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kWeightC1));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kWeightC0));
  return _mm512_cvtps_epi32(_mm512_scalef_ps(p, n));
}

// p (256) = the weights as bytes, zero from n_visible to n_keys (a multiple of 64); 64 keys in the order of the slots.
// Returns their sum.
inline int32_t probabilities(const float* scores, float scale, float max, int64_t n_visible, int64_t n_keys,
                             uint8_t* p) {
  const __m512 by = _mm512_set1_ps(scale);
  const __m512 offset = _mm512_fnmadd_ps(_mm512_set1_ps(max), by, _mm512_set1_ps(kLog2Of255));
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512();
  for (int64_t k = 0; k < n_keys; k += 64) {
    __m512i w[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      w[i] = weights(_mm512_load_ps(scores + k + 16 * i), by, offset);
    }
    if (k + 64 > n_visible) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) w[i] = _mm512_maskz_mov_epi32(lanes_below_avx512(n_visible - k - 16 * i), w[i]);
    }
    // Within each quarter of the vector: 4 + 4 words, then 8 + 8 halves. Saturating: what NaN gives does not matter.
    const __m512i packed = _mm512_packus_epi16(_mm512_packus_epi32(w[0], w[1]), _mm512_packus_epi32(w[2], w[3]));
    sum = _mm512_dpbusd_epi32(sum, packed, ones);
    _mm512_store_si512(p + k, packed);
  }
  return _mm512_reduce_add_epi32(sum);
}

// acc (R, 16 C) = P V scale + centre * sum. p: (R, 256); values: the first of C vectors of the first slot.
template <int D, int R, int C>
void value_tile(const uint8_t* p, const std::byte* values, const float* scales, int64_t d_any, int64_t n_keys,
                const float* sums, float* acc) {
  const int64_t d = D != 0 ? D : d_any;
  __m512i dot[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) dot[r][c] = _mm512_setzero_si512();
  }
  for (int64_t k = 0; k < n_keys; k += 4, values += 4 * d) {
    __m512i value[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) value[c] = _mm512_load_si512(values + 64 * c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i weight = broadcast_word(p + r * kKeyBlock + k);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) dot[r][c] = dot4(dot[r][c], weight, value[c]);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
    const __m512 scale = _mm512_load_ps(scales + 16 * c), centre = _mm512_load_ps(scales + d + 16 * c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 base = _mm512_mul_ps(centre, _mm512_set1_ps(sums[r]));
      _mm512_store_ps(acc + r * d + 16 * c, _mm512_fmadd_ps(to_float(dot[r][c]), scale, base));
    }
  }
}

// Cuts the (R, d) output into tiles of at most 20 accumulators.
template <int D, int R>
void value_rows(const uint8_t* p, const std::byte* values, const float* scales, int64_t d, int64_t n_keys,
                const float* sums, float* acc) {
  if constexpr (R > 4) {
    value_rows<D, 4>(p, values, scales, d, n_keys, sums, acc);
    value_rows<D, R - 4>(p + 4 * kKeyBlock, values, scales, d, n_keys, sums + 4, acc + 4 * (D != 0 ? D : d));
  } else {
    constexpr int kVectors = D == 80 ? 5 : 4;
    const int64_t width = D != 0 ? D : d;
    int64_t i = 0;
    for (; i + 16 * kVectors <= width; i += 16 * kVectors) {
      value_tile<D, R, kVectors>(p, values + i * 4, scales + i, d, n_keys, sums, acc + i);
    }
    if constexpr (D == 0) {
      for (; i < width; i += 16) value_tile<D, R, 1>(p, values + i * 4, scales + i, d, n_keys, sums, acc + i);
    }
  }
}

template <int D, int R>
void attend_group(const std::byte* queries, int64_t d, const std::byte* keys, const std::byte* values,
                  const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  int64_t n_seen = 0, n_whole = kKeyBlock;
  for (int r = 0; r < R; ++r) {
    n_seen = n_visible[r] > n_seen ? n_visible[r] : n_seen;
    n_whole = n_visible[r] < n_whole ? n_visible[r] : n_whole;
  }
  n_whole = n_whole / 16 * 16;
  if (n_seen == 0) return;
  const int64_t n_keys = (n_seen + 63) / 64 * 64;
  auto* scores = reinterpret_cast<float*>(scratch + kScratchScores);
  auto* p = reinterpret_cast<uint8_t*>(scratch + kScratchProbabilities);
  const AttentionState block = {reinterpret_cast<float*>(scratch + kScratchMax),
                                reinterpret_cast<float*>(scratch + kScratchSum),
                                reinterpret_cast<float*>(scratch + kScratchAcc)};
  __m512 best[R];
  score_tile<D, R>(queries, d, keys, n_keys, n_whole, scores, best);
  float sums[R];
  for (int r = 0; r < R; ++r) {
    const float scale = query_scale(queries + r * int8_query_bytes(d), d);
    const float* row = scores + r * kKeyBlock;
    const float max = row_max(best[r], row, n_whole, n_visible[r]);
    sums[r] = static_cast<float>(probabilities(row, scale, max, n_visible[r], n_keys, p + r * kKeyBlock));
    block.max[r] = max * scale;
    block.sum[r] = scale * 0.0f + sums[r];  // a scale that is NaN makes the row NaN
    if (n_visible[r] == 0) block.sum[r] = 0;
  }
  const auto* scales = reinterpret_cast<const float*>(values);
  value_rows<D, R>(p, values + 8 * d, scales, d, n_keys, sums, block.acc);
  merge_attention_avx512(state, block, R, d);
}

template <int D>
void attend_block(const std::byte* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                  const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  using Group = void (*)(const std::byte*, int64_t, const std::byte*, const std::byte*, const int32_t*,
                         const AttentionState&, std::byte*);
  static constexpr Group kGroups[kRowGroup] = {attend_group<D, 1>, attend_group<D, 2>, attend_group<D, 3>,
                                               attend_group<D, 4>, attend_group<D, 5>, attend_group<D, 6>,
                                               attend_group<D, 7>, attend_group<D, 8>};
  for (int64_t r = 0; r < n_rows; r += kRowGroup) {
    const int64_t count = n_rows - r < kRowGroup ? n_rows - r : kRowGroup;
    kGroups[count - 1](queries + r * int8_query_bytes(d), d, keys, values, n_visible + r,
                       {state.max + r, state.sum + r, state.acc + r * d}, scratch);
  }
}

}  // namespace

void attention_int8_avx512vnni(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                               const std::byte* values, int64_t key_begin, const int32_t* n_visible,
                               const AttentionState& state, std::byte* scratch) {
  const int64_t index = key_begin / kKeyBlock;
  const std::byte* k = keys + int8_key_header_bytes(d) + index * int8_key_block_bytes(d);
  const std::byte* v = values + index * int8_value_block_bytes(d);
  const auto run = d == 80 ? attend_block<80> : attend_block<0>;
  run(static_cast<const std::byte*>(queries), n_rows, d, k, v, n_visible, state, scratch);
}

}  // namespace glimpse
