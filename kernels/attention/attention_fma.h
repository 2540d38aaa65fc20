// Attention on float fused multiply-add, for any vector width and all float elements: bf16 and f16 panels are widened
// as they are read, once per group of rows. Included by attention_avx2.cpp and attention_avx512.cpp, each with its own
// vector type; everything has internal linkage.
//
// S describes the vectors: one of kernels/simd with the size of the tiles that fit its registers, and the operations.
// Every score and every output element has one accumulator that takes the head dimensions (the keys) in ascending
// order, so the tiling leaves no trace in the result.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention_isa.h"

namespace glimpse {
namespace {

// Asks for a line that a later step reads. The address may lie behind the panels: a prefetch never faults.
inline void prefetch_ahead(const void* p) {
  _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(p) + kPrefetchBytes), _MM_HINT_T1);
}

// How the panels of an element are read. Keys: a line of 64 bytes holds 16 positions of kKeyDims dimensions. Values:
// a row of d dimensions holds kValueKeys positions and takes kValueBytes per dimension.
template <class S, KvElement element>
struct PanelReader;

template <class S>
struct PanelReader<S, KvElement::kBf16> {  // pairs of dimensions, pairs of positions
  static constexpr int kKeyDims = 2, kValueKeys = 2, kValueBytes = 4;
  static inline void keys(const std::byte* line, int64_t position, typename S::F out[kKeyDims]) {
    S::load_bf16_pair(line + 4 * position, out[0], out[1]);
  }
  static inline void values(const std::byte* at, typename S::F out[kValueKeys]) {
    S::load_bf16_pair(at, out[0], out[1]);
  }
};
template <class S>
struct PanelReader<S, KvElement::kF16> {  // the line: 16 positions of one dimension, then of the next
  static constexpr int kKeyDims = 2, kValueKeys = 1, kValueBytes = 2;
  static inline void keys(const std::byte* line, int64_t position, typename S::F out[kKeyDims]) {
    out[0] = S::load_f16(line + 2 * position);
    out[1] = S::load_f16(line + 2 * position + 32);
  }
  static inline void values(const std::byte* at, typename S::F out[kValueKeys]) { out[0] = S::load_f16(at); }
};
template <class S>
struct PanelReader<S, KvElement::kF32> {
  static constexpr int kKeyDims = 1, kValueKeys = 1, kValueBytes = 4;
  static inline void keys(const std::byte* line, int64_t position, typename S::F out[kKeyDims]) {
    out[0] = S::load_f(line + 4 * position);
  }
  static inline void values(const std::byte* at, typename S::F out[kValueKeys]) { out[0] = S::load_f(at); }
};

// scores (R, 256) = q K^T for the first n_keys keys, rounded up to whole steps (never past the block).
// Ahead: this is the first pass over the keys of few rows.
// q: (R, d) floats.
template <class S, KvElement element, int D, int R, bool Ahead>
void score_tile(const float* q, int64_t d_any, const std::byte* keys, int64_t n_keys, float* scores) {
  using Reader = PanelReader<S, element>;
  constexpr bool kFew = R <= (S::kLanes == 16 ? 2 : 1);  // more vectors, so that there are chains enough
  constexpr int kVectors = kFew ? 2 * S::kScoreVectors : S::kScoreVectors;
  constexpr int kPerLine = 16 / S::kLanes;  // vectors in a line of 16 keys
  const int64_t d = D != 0 ? D : d_any;
  const int64_t lines = d / Reader::kKeyDims;
  for (int64_t k = 0; k < n_keys; k += S::kLanes * kVectors) {
    typename S::F acc[R][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = S::zero_f();
    }
    const std::byte* panel = keys + k / 16 * lines * 64;
    for (int64_t i = 0; i < lines; ++i) {
      typename S::F key[kVectors][Reader::kKeyDims];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const std::byte* line = panel + (v / kPerLine * lines + i) * 64;
        Reader::keys(line, v % kPerLine * S::kLanes, key[v]);
        if constexpr (Ahead) {
          if (v % kPerLine == 0) prefetch_ahead(line);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int e = 0; e < Reader::kKeyDims; ++e) {
          const typename S::F query = S::set_f(q[r * d + i * Reader::kKeyDims + e]);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) acc[r][v] = S::fma(key[v][e], query, acc[r][v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) S::store_f(scores + r * kKeyBlock + k + S::kLanes * v, acc[r][v]);
    }
  }
}

template <class S>
inline float row_max(const float* scores, int64_t n_visible) {
  typename S::F max = S::set_f(-__builtin_inff());
  int64_t k = 0;
  for (; k + S::kLanes <= n_visible; k += S::kLanes) max = S::max(max, S::load_f(scores + k));
  if (k < n_visible) max = S::max(max, S::first_lanes(S::load_f(scores + k), n_visible - k, -__builtin_inff()));
  return S::reduce_max(max);
}

// scores := p = 2^(scores - max) for the visible keys and zero from there to n_keys (a multiple of 16); for bf16 stores
// rounded to bf16, like the kernels that multiply in bf16. Returns the sum of what is stored.
template <class S, KvElement element>
inline float probabilities(float* scores, float max, int64_t n_visible, int64_t n_keys) {
  const typename S::F m = S::set_f(max);
  typename S::F sum = S::zero_f();
  int64_t k = 0;
  for (; k < n_visible; k += S::kLanes) {
    typename S::F p = S::exp2_nonpositive(S::sub(S::load_f(scores + k), m));
    if constexpr (element == KvElement::kBf16) p = S::round_to_bf16(p);
    if (k + S::kLanes > n_visible) p = S::first_lanes(p, n_visible - k, 0.0f);
    S::store_f(scores + k, p);
    sum = S::add(sum, p);
  }
  for (; k < n_keys; k += S::kLanes) S::store_f(scores + k, S::zero_f());
  return S::reduce_add(sum);
}

// acc (R, C vectors) = P V for n_rows panel rows. p: (R, 256) floats; values, acc: first of C vectors.
template <class S, KvElement element, int D, int R, int C, bool Ahead>
void value_tile(const float* p, const std::byte* values, int64_t d_any, int64_t n_rows, float* acc_rows) {
  using Reader = PanelReader<S, element>;
  constexpr int kVectorBytes = S::kLanes * Reader::kValueBytes;
  const int64_t d = D != 0 ? D : d_any;
  typename S::F acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[r][c] = S::zero_f();
  }
  for (int64_t k = 0; k < n_rows; ++k, values += d * Reader::kValueBytes, p += Reader::kValueKeys) {
    typename S::F value[C][Reader::kValueKeys];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      Reader::values(values + kVectorBytes * c, value[c]);
      if constexpr (Ahead) {
        if (kVectorBytes * c % 64 == 0) prefetch_ahead(values + kVectorBytes * c);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int e = 0; e < Reader::kValueKeys; ++e) {
        const typename S::F weight = S::set_f(p[r * kKeyBlock + e]);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) acc[r][c] = S::fma(value[c][e], weight, acc[r][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {  // adding zero turns -0 into +0: keys of weight zero must not show in the sign
      S::store_f(acc_rows + r * d + S::kLanes * c, S::add(acc[r][c], S::zero_f()));
    }
  }
}

// Cuts the (R, d) output into tiles that the registers hold. Ahead: this is the first pass over few rows' values.
template <class S, KvElement element, int D, int R, bool Ahead>
void value_rows(const float* p, const std::byte* values, int64_t d_any, int64_t n_rows, float* acc) {
  const int64_t d = D != 0 ? D : d_any;
  constexpr bool kFive = D == 80 && S::kLanes == 16;  // five vectors are the whole width
  constexpr int kMaxRows = kFive || element == KvElement::kBf16 ? 4 : S::kValueRows;
  if constexpr (R > kMaxRows) {
    value_rows<S, element, D, 4, Ahead>(p, values, d, n_rows, acc);
    value_rows<S, element, D, R - 4, false>(p + 4 * kKeyBlock, values, d, n_rows, acc + 4 * d);
  } else {
    constexpr int kBytes = PanelReader<S, element>::kValueBytes;
    constexpr int kVectors = kFive ? 5 : S::kValueVectors;
    constexpr int kRest = 16 / S::kLanes;
    int64_t i = 0;
    for (; i + S::kLanes * kVectors <= d; i += S::kLanes * kVectors) {
      value_tile<S, element, D, R, kVectors, Ahead>(p, values + i * kBytes, d, n_rows, acc + i);
    }
    if constexpr (kVectors != kRest) {
      for (; i < d; i += 16) value_tile<S, element, D, R, kRest, Ahead>(p, values + i * kBytes, d, n_rows, acc + i);
    }
  }
}

// The queries of a group as floats.
template <class S, KvElement element, int R>
inline const float* widened_queries(const void* queries, int64_t d, std::byte* scratch) {
  if constexpr (element != KvElement::kBf16) return static_cast<const float*>(queries);
  auto* out = reinterpret_cast<float*>(scratch + kScratchAcc) + kRowGroup * d;
  const auto* in = static_cast<const uint16_t*>(queries);
  for (int64_t i = 0; i < R * d; i += S::kLanes) S::store_f(out + i, S::load_bf16(in + i));
  return out;
}

template <class S, KvElement element, int D, int R>
void attend_group(const void* queries, int64_t d, const std::byte* keys, const std::byte* values,
                  const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  int64_t n_keys = 0;
  for (int r = 0; r < R; ++r) n_keys = n_visible[r] > n_keys ? n_visible[r] : n_keys;
  if (n_keys == 0) return;
  auto* scores = reinterpret_cast<float*>(scratch + kScratchScores);
  const AttentionState block = {reinterpret_cast<float*>(scratch + kScratchMax),
                                reinterpret_cast<float*>(scratch + kScratchSum),
                                reinterpret_cast<float*>(scratch + kScratchAcc)};
  const float* q = widened_queries<S, element, R>(queries, d, scratch);
  // The tile is cut into as many rows as the registers hold.
  constexpr int kFirst = R < S::kScoreRows ? R : S::kScoreRows;
  score_tile<S, element, D, kFirst, (R < kRowGroup)>(q, d, keys, n_keys, scores);
  if constexpr (R > kFirst) {
    score_tile<S, element, D, R - kFirst, false>(q + kFirst * d, d, keys, n_keys, scores + kFirst * kKeyBlock);
  }
  for (int r = 0; r < R; ++r) {
    float* row = scores + r * kKeyBlock;
    block.max[r] = row_max<S>(row, n_visible[r]);
    block.sum[r] = probabilities<S, element>(row, block.max[r], n_visible[r], (n_keys + 15) / 16 * 16);
  }
  constexpr int kKeys = PanelReader<S, element>::kValueKeys;
  value_rows<S, element, D, R, (R < kRowGroup)>(scores, values, d, (n_keys + kKeys - 1) / kKeys, block.acc);
  S::merge(state, block, R, d);
}

template <class S, KvElement element, int D>
void attend_block(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                  const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  using Group = void (*)(const void*, int64_t, const std::byte*, const std::byte*, const int32_t*,
                         const AttentionState&, std::byte*);
  static constexpr Group kGroups[kRowGroup] = {attend_group<S, element, D, 1>, attend_group<S, element, D, 2>,
                                               attend_group<S, element, D, 3>, attend_group<S, element, D, 4>,
                                               attend_group<S, element, D, 5>, attend_group<S, element, D, 6>,
                                               attend_group<S, element, D, 7>, attend_group<S, element, D, 8>};
  const int64_t row_bytes = d * (element == KvElement::kBf16 ? 2 : 4);
  for (int64_t r = 0; r < n_rows; r += kRowGroup) {
    const int64_t count = n_rows - r < kRowGroup ? n_rows - r : kRowGroup;
    kGroups[count - 1](static_cast<const char*>(queries) + r * row_bytes, d, keys, values, n_visible + r,
                       {state.max + r, state.sum + r, state.acc + r * d}, scratch);
  }
}

template <class S, KvElement element>
void attend_any(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  const uint64_t before = kv_head_bytes(element, d, key_begin);
  const auto run = d == 64    ? attend_block<S, element, 64>
                   : d == 80  ? attend_block<S, element, 80>
                   : d == 128 ? attend_block<S, element, 128>
                              : attend_block<S, element, 0>;
  run(queries, n_rows, d, keys + before, values + before, n_visible, state, scratch);
}

}  // namespace
}  // namespace glimpse
