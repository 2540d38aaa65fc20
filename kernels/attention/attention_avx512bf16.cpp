// bf16 attention on vdpbf16ps. Groups of at most 8 query rows go through scores, softmax and output together; the
// block's keys and values (40 to 64 KiB each) come from L2, scores and probabilities stay in L1.
//
// The instruction adds the products of the odd and then of the even element of each pair to one accumulator per lane.
// Every score and every output element has one accumulator for the whole block, so the tiling leaves no trace in it.
#include <immintrin.h>

#include "kernels/attention/attention_isa.h"
#include "kernels/simd/exp2_avx512.h"
#include "kernels/simd/row_avx512.h"

namespace glimpse {
namespace {

inline __m512 dot_pairs(__m512 acc, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// Asks for a line that a later step reads. The address may lie behind the panels: a prefetch never faults.
inline void prefetch_ahead(const void* p) {
  _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(p) + kPrefetchBytes), _MM_HINT_T1);
}

// scores (R, 256) = q K^T for the first n_keys keys, rounded up to whole steps (never past the block).
// q: (R, d / 2) bf16 pairs. Two vectors of 16 keys against up to 8 rows give 16 independent chains (the latency of
// vdpbf16ps is 5 to 6 cycles); few rows take four vectors of keys instead.
template <int D, int R>
void score_tile(const int32_t* q, int64_t d, const int32_t* keys, int64_t n_keys, float* scores) {
  constexpr int kVectors = R <= 2 ? 4 : 2;
  const int64_t pairs = (D != 0 ? D : d) / 2;
  for (int64_t k = 0; k < n_keys; k += 16 * kVectors) {
    __m512 acc[R][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm512_setzero_ps();
    }
    const int32_t* panel = keys + k * pairs;
    for (int64_t i = 0; i < pairs; ++i) {
      __m512i key[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        key[v] = _mm512_load_si512(panel + (v * pairs + i) * 16);
        if constexpr (R < kRowGroup) prefetch_ahead(panel + (v * pairs + i) * 16);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512i query = _mm512_set1_epi32(q[r * pairs + i]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) acc[r][v] = dot_pairs(acc[r][v], key[v], query);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) _mm512_store_ps(scores + r * kKeyBlock + k + 16 * v, acc[r][v]);
    }
  }
}

inline float row_max(const float* scores, int64_t n_visible) {
  __m512 max = _mm512_set1_ps(-__builtin_inff());
  int64_t k = 0;
  for (; k + 16 <= n_visible; k += 16) max = _mm512_max_ps(max, _mm512_load_ps(scores + k));
  const __mmask16 rest = lanes_below_avx512(n_visible - k);
  if (rest != 0) max = _mm512_mask_max_ps(max, rest, max, _mm512_load_ps(scores + k));
  return _mm512_reduce_max_ps(max);
}

// p = 2^(scores - max) as bf16 for the visible keys and zero from there to n_keys (a multiple of 32). Returns the sum
// of the rounded probabilities: with them the weights of the values add up to one exactly as they are applied.
inline float probabilities(const float* scores, float max, int64_t n_visible, int64_t n_keys, uint16_t* p) {
  const __m512i ones = _mm512_set1_epi32(0x3f803f80);
  const __m512 m = _mm512_set1_ps(max);
  __m512 sum = _mm512_setzero_ps();
  int64_t k = 0;
  for (; k + 32 <= n_visible; k += 32) {
    const __m512 p0 = exp2_nonpositive_avx512(_mm512_sub_ps(_mm512_load_ps(scores + k), m));
    const __m512 p1 = exp2_nonpositive_avx512(_mm512_sub_ps(_mm512_load_ps(scores + k + 16), m));
    const __m512i pair = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(p1, p0));
    sum = dot_pairs(sum, pair, ones);
    _mm512_store_si512(p + k, pair);
  }
  if (k < n_visible) {
    __m512 p0 = exp2_nonpositive_avx512(_mm512_sub_ps(_mm512_load_ps(scores + k), m));
    __m512 p1 = exp2_nonpositive_avx512(_mm512_sub_ps(_mm512_load_ps(scores + k + 16), m));
    p0 = _mm512_maskz_mov_ps(lanes_below_avx512(n_visible - k), p0);
    p1 = _mm512_maskz_mov_ps(lanes_below_avx512(n_visible - k - 16), p1);
    const __m512i pair = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(p1, p0));
    sum = dot_pairs(sum, pair, ones);
    _mm512_store_si512(p + k, pair);
    k += 32;
  }
  for (; k < n_keys; k += 32) _mm512_store_si512(p + k, _mm512_setzero_si512());
  return _mm512_reduce_add_ps(sum);
}

// acc (R, 16 C) = P V for n_pairs pairs of keys. p: (R, 128) pairs; values, acc: first of C vectors, row stride d.
template <int D, int R, int C, bool Ahead>
void value_tile(const int32_t* p, const int32_t* values, int64_t d, int64_t n_pairs, float* acc_rows) {
  const int64_t stride = D != 0 ? D : d;
  __m512 acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[r][c] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < n_pairs; ++k, values += stride) {
    __m512i value[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      value[c] = _mm512_load_si512(values + 16 * c);
      if constexpr (Ahead) prefetch_ahead(values + 16 * c);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i weight = _mm512_set1_epi32(p[r * (kKeyBlock / 2) + k]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) acc[r][c] = dot_pairs(acc[r][c], value[c], weight);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {  // adding zero turns -0 into +0: keys of weight zero must not show in the sign
      _mm512_store_ps(acc_rows + r * stride + 16 * c, _mm512_add_ps(acc[r][c], _mm512_setzero_ps()));
    }
  }
}

// Cuts the (R, d) output into tiles of at most 24 accumulators. Ahead: this is the first pass over few rows' values.
template <int D, int R, bool Ahead>
void value_rows(const int32_t* p, const int32_t* values, int64_t d, int64_t n_pairs, float* acc) {
  constexpr int kMaxRows = D == 80 ? 4 : 6;
  if constexpr (R > kMaxRows) {
    value_rows<D, 4, Ahead>(p, values, d, n_pairs, acc);
    value_rows<D, R - 4, false>(p + 4 * (kKeyBlock / 2), values, d, n_pairs, acc + 4 * (D != 0 ? D : d));
  } else {
    constexpr int kVectors = D == 80 ? 5 : D == 128 && R <= 3 ? 8 : 4;
    const int64_t width = D != 0 ? D : d;
    int64_t i = 0;
    for (; i + 16 * kVectors <= width; i += 16 * kVectors) {
      value_tile<D, R, kVectors, Ahead>(p, values + i, d, n_pairs, acc + i);
    }
    if constexpr (D == 0) {
      for (; i < width; i += 16) value_tile<D, R, 1, Ahead>(p, values + i, d, n_pairs, acc + i);
    }
  }
}

template <int D, int R>
void attend_group(const int32_t* q, int64_t d, const int32_t* keys, const int32_t* values, const int32_t* n_visible,
                  const AttentionState& state, std::byte* scratch) {
  int64_t n_keys = 0;
  for (int r = 0; r < R; ++r) n_keys = n_visible[r] > n_keys ? n_visible[r] : n_keys;
  if (n_keys == 0) return;
  auto* scores = reinterpret_cast<float*>(scratch + kScratchScores);
  auto* p = reinterpret_cast<uint16_t*>(scratch + kScratchProbabilities);
  const AttentionState block = {reinterpret_cast<float*>(scratch + kScratchMax),
                                reinterpret_cast<float*>(scratch + kScratchSum),
                                reinterpret_cast<float*>(scratch + kScratchAcc)};
  score_tile<D, R>(q, d, keys, n_keys, scores);
  for (int r = 0; r < R; ++r) {
    const float* row = scores + r * kKeyBlock;
    block.max[r] = row_max(row, n_visible[r]);
    block.sum[r] = probabilities(row, block.max[r], n_visible[r], (n_keys + 31) / 32 * 32, p + r * kKeyBlock);
  }
  value_rows<D, R, (R < kRowGroup)>(reinterpret_cast<const int32_t*>(p), values, d, (n_keys + 1) / 2, block.acc);
  merge_attention_avx512(state, block, R, d);
}

template <int D>
void attend_block(const int32_t* q, int64_t n_rows, int64_t d, const int32_t* keys, const int32_t* values,
                  const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  using Group = void (*)(const int32_t*, int64_t, const int32_t*, const int32_t*, const int32_t*, const AttentionState&,
                         std::byte*);
  static constexpr Group kGroups[kRowGroup] = {attend_group<D, 1>, attend_group<D, 2>, attend_group<D, 3>,
                                               attend_group<D, 4>, attend_group<D, 5>, attend_group<D, 6>,
                                               attend_group<D, 7>, attend_group<D, 8>};
  for (int64_t r = 0; r < n_rows; r += kRowGroup) {
    const int64_t count = n_rows - r < kRowGroup ? n_rows - r : kRowGroup;
    kGroups[count - 1](q + r * (d / 2), d, keys, values, n_visible + r,
                       {state.max + r, state.sum + r, state.acc + r * d}, scratch);
  }
}

}  // namespace

void attention_bf16_avx512bf16(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                               const std::byte* values, int64_t key_begin, const int32_t* n_visible,
                               const AttentionState& state, std::byte* scratch) {
  const auto* q = static_cast<const int32_t*>(queries);
  const auto* k = reinterpret_cast<const int32_t*>(keys) + key_begin * (d / 2);
  const auto* v = reinterpret_cast<const int32_t*>(values) + key_begin / 2 * d;
  const auto run = d == 64    ? attend_block<64>
                   : d == 80  ? attend_block<80>
                   : d == 128 ? attend_block<128>
                              : attend_block<0>;
  run(q, n_rows, d, k, v, n_visible, state, scratch);
}

}  // namespace glimpse
