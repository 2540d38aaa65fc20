// Attention on the int8 store for any vector width. Scores: integer products of queries and keys per block of 32
// dimensions, times both scales, then the wide channels in float. Output: probability times scale of the value, as a
// 16-bit integer relative to the greatest of the row in these 256 keys, times the int8 values in integers. The rounding
// of the weights, half of 1/32767 of the greatest, is far below that of the values. 256 * 32767 * 127 fits into 32
// bits.
//
// Integer sums are exact and the blocks of a score are added in ascending order, so the tiling leaves no trace in the
// result. Included by attention_q8_*.cpp, each with its own vector type S; everything has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_fma.h"
#include "kernels/attention/attention_q8.h"
#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

// One prepared query group: R rows.
template <int R>
struct Q8Queries {
  Q8Query row[R];
  Q8Queries(const std::byte* rows, int64_t d, int64_t n_wide) {
    for (int r = 0; r < R; ++r) row[r] = q8_query(rows + r * q8_query_bytes(d, n_wide), d);
  }
};

// dot[r][v] += the products of dimensions [begin, end) of query r's bytes, high or low, and of the keys of vector v,
// whose values begin at values[v].
template <class S, auto Bytes, bool Ahead, int R, int kVectors>
GLIMPSE_INLINE void q8_dot_keys(const Q8Queries<R>& q, const std::byte* const (&values)[kVectors], int64_t begin,
                                int64_t end, typename S::I (&dot)[R][kVectors]) {
  for (int64_t i = begin; i < end; i += 4) {
    typename S::Key key[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      key[v] = S::load_key(values[v] + i * 16);
      if constexpr (Ahead) prefetch_ahead(values[v] + i * 16);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename S::I query = S::broadcast32(q.row[r].*Bytes + i);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) dot[r][v] = S::dot4(dot[r][v], key[v], query);
    }
  }
}

// acc[r][v] += the products of the wide channels, those of vector v beginning at wide[v].
template <class S, int R, int kVectors>
GLIMPSE_INLINE void q8_add_wide(const Q8Queries<R>& q, const std::byte* const (&wide)[kVectors], int64_t n_wide,
                                typename S::F (&acc)[R][kVectors]) {
  for (int64_t w = 0; w < n_wide; ++w) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const typename S::F key = S::load_f16(wide[v] + w * 32);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][v] = S::fma(key, S::set_f(q.row[r].wide[w]), acc[r][v]);
    }
  }
}

// scores (R, 256) for the first n_keys keys, rounded up to whole steps (never past the block).
template <class S, int D, int R, bool Ahead>
void q8_score_tile(const std::byte* queries, int64_t d_any, int64_t n_wide, const std::byte* keys, int64_t n_keys,
                   float* scores) {
  constexpr int kVectors = S::template score_vectors<R>();
  constexpr int kPerLine = 16 / S::kLanes;  // vectors in a line of 16 keys
  const int64_t d = D != 0 ? D : d_any;
  const int64_t group_bytes = q8_group_bytes(d, n_wide);
  const Q8Queries<R> q(queries, d, n_wide);
  for (int64_t k = 0; k < n_keys; k += S::kLanes * kVectors) {
    const std::byte *scales[kVectors], *wide[kVectors], *values[kVectors];
    typename S::F acc[R][kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64_t vector = k / S::kLanes + v;
      const int64_t lane = vector % kPerLine * S::kLanes;
      scales[v] = keys + vector / kPerLine * group_bytes + lane * 2;
      wide[v] = scales[v] + q8_scale_bytes(d);
      values[v] = wide[v] + 32 * n_wide + lane * 2;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][v] = S::zero_f();
    }
    for (int64_t begin = 0, block = 0; begin < d; begin += kQ8Block, ++block) {
      typename S::I dot[R][kVectors];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) dot[r][v] = S::dot_start(q.row[r].starts + 2 * block);
      }
      const int64_t end = begin + kQ8Block < d ? begin + kQ8Block : d;
      q8_dot_keys<S, &Q8Query::high, Ahead>(q, values, begin, end, dot);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          dot[r][v] = S::add32(S::sll(dot[r][v], 7), S::dot_start(q.row[r].starts + 2 * block + 1));
        }
      }
      q8_dot_keys<S, &Q8Query::low, false>(q, values, begin, end, dot);  // the keys once more, from L1
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const typename S::F scale = S::load_f16(scales[v] + block * 32);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const typename S::F both = S::mul(scale, S::set_f(q.row[r].scales[block]));
          acc[r][v] = S::fma(S::to_float(dot[r][v]), both, acc[r][v]);
        }
      }
    }
    q8_add_wide<S>(q, wide, n_wide, acc);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) S::store_f(scores + r * kKeyBlock + k + S::kLanes * v, acc[r][v]);
    }
  }
}

// The scales of one block of dimensions, n_keys (a multiple of 16) of them, as floats. scales: the first group's.
template <class S>
inline void q8_load_scales(const std::byte* scales, int64_t group_bytes, int64_t n_keys, float* out) {
  for (int64_t k = 0; k < n_keys; k += 16, scales += group_bytes) {
    for (int i = 0; i < 16; i += S::kLanes) S::store_f(out + k + i, S::load_f16(scales + i * 2));
  }
}

// w = round(p * scale * 32767 / max) for the visible keys, zero from there to n_keys (a multiple of 16), where max is
// the greatest p * scale. Returns max / 32767: NaN if one of the products is NaN, zero (and no weights) if all are
// below 2^-100.
template <class S>
inline float q8_weights(const float* p, const float* scales, int64_t n_visible, int64_t n_keys, int16_t* w) {
  const auto product = [&](int64_t k) { return S::mul(S::load_f(p + k), S::load_f(scales + k)); };
  const int64_t whole = n_visible / S::kLanes * S::kLanes;
  // What the row does not see might be NaN.
  const typename S::F last = whole < n_visible ? S::first_lanes(product(whole), n_visible - whole, 0.0f) : S::zero_f();
  // Products are not negative: their order is that of their bits, above which lie those of NaN.
  typename S::I bits = S::as_int(last);
  for (int64_t k = 0; k < whole; k += S::kLanes) bits = S::max_unsigned(bits, S::as_int(product(k)));
  const uint32_t max_bits = S::reduce_max_unsigned(bits);
  float max;
  __builtin_memcpy(&max, &max_bits, sizeof max);
  const bool usable = max_bits < 0x7f800000u && max_bits >= 0x0d800000u;  // finite, at least 2^-100
  int64_t k = 0;
  if (usable) {
    const typename S::F inverse = S::set_f(32767.0f / max);
    for (; k < whole; k += S::kLanes) S::store_int16(w + k, S::mul(product(k), inverse));
    if (k < n_visible) S::store_int16(w + k, S::mul(last, inverse)), k += S::kLanes;
  }
  for (; k < n_keys; k += S::kLanes) S::store_int16(w + k, S::zero_f());
  return usable ? max / 32767.0f : max_bits >= 0x7f800000u ? __builtin_nanf("") : 0.0f;
}

// acc (R, C vectors) of a block = W V for n_pairs pairs of positions. w: (R, 256); values: first of C vectors of the
// block's first group, `width` dimensions wide; factor: what a weight of 1 stands for, per row.
template <class S, int R, int C, bool Ahead>
void q8_value_tile(const int16_t* w, const float* factor, const std::byte* values, int64_t width, int64_t group_bytes,
                   int64_t n_pairs, int64_t d, float* acc_rows) {
  typename S::I acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) acc[r][c] = S::zero();
  }
  for (int64_t first = 0; first < n_pairs; first += 8, values += group_bytes) {
    const int64_t end = first + 8 < n_pairs ? first + 8 : n_pairs;
    const std::byte* at = values;
    for (int64_t pair = first; pair < end; ++pair, at += width * 2) {
      typename S::I value[C];
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) value[c] = S::load_widened(at + S::kLanes * 2 * c);
      if constexpr (Ahead) prefetch_ahead(at);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const typename S::I weight = S::broadcast32(w + r * kKeyBlock + 2 * pair);
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) acc[r][c] = S::dot2(acc[r][c], value[c], weight);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
      S::store_f(acc_rows + r * d + S::kLanes * c, S::mul(S::to_float(acc[r][c]), S::set_f(factor[r])));
    }
  }
}

template <class S, int R, bool Ahead>
void q8_value_rows(const int16_t* w, const float* factor, const std::byte* values, int64_t width, int64_t group_bytes,
                   int64_t n_pairs, int64_t d, float* acc) {
  if constexpr (R > S::kScoreRows) {
    q8_value_rows<S, S::kScoreRows, Ahead>(w, factor, values, width, group_bytes, n_pairs, d, acc);
    q8_value_rows<S, R - S::kScoreRows, false>(w + S::kScoreRows * kKeyBlock, factor + S::kScoreRows, values, width,
                                               group_bytes, n_pairs, d, acc + S::kScoreRows * d);
  } else {
    int64_t i = 0;
    for (; i + S::kLanes * 2 <= width; i += S::kLanes * 2) {
      q8_value_tile<S, R, 2, Ahead>(w, factor, values + i * 2, width, group_bytes, n_pairs, d, acc + i);
    }
    if (i < width) q8_value_tile<S, R, 1, Ahead>(w, factor, values + i * 2, width, group_bytes, n_pairs, d, acc + i);
  }
}

template <class S, int D, int R>
void q8_attend_group(const std::byte* queries, int64_t d_any, int64_t n_wide, const std::byte* keys,
                     const std::byte* values, const int32_t* n_visible, const AttentionState& state,
                     std::byte* scratch) {
  const int64_t d = D != 0 ? D : d_any;
  int64_t n_keys = 0;
  for (int r = 0; r < R; ++r) n_keys = n_visible[r] > n_keys ? n_visible[r] : n_keys;
  if (n_keys == 0) return;
  auto* scores = reinterpret_cast<float*>(scratch + kScratchScores);
  auto* w = reinterpret_cast<int16_t*>(scratch + kScratchProbabilities);
  auto* scales = reinterpret_cast<float*>(scratch + kScratchScales);
  const AttentionState block = {reinterpret_cast<float*>(scratch + kScratchMax),
                                reinterpret_cast<float*>(scratch + kScratchSum),
                                reinterpret_cast<float*>(scratch + kScratchAcc)};
  constexpr int kFirst = R < S::kScoreRows ? R : S::kScoreRows;
  constexpr bool kAhead = R < kRowGroup;
  q8_score_tile<S, D, kFirst, kAhead>(queries, d, n_wide, keys, n_keys, scores);
  if constexpr (R > kFirst) {
    q8_score_tile<S, D, R - kFirst, false>(queries + kFirst * q8_query_bytes(d, n_wide), d, n_wide, keys, n_keys,
                                           scores + kFirst * kKeyBlock);
  }
  const int64_t n_stored = (n_keys + 15) / 16 * 16;
  for (int r = 0; r < R; ++r) {
    float* row = scores + r * kKeyBlock;
    block.max[r] = row_max<S>(row, n_visible[r]);
    block.sum[r] = probabilities<S, KvElement::kQ8_0>(row, block.max[r], n_visible[r], n_stored);
  }
  const int64_t group_bytes = q8_group_bytes(d);
  for (int64_t begin = 0; begin < d; begin += kQ8Block) {
    const int64_t width = begin + kQ8Block < d ? kQ8Block : d - begin;
    q8_load_scales<S>(values + begin, group_bytes, n_stored, scales);
    float factor[R];
    for (int r = 0; r < R; ++r) {
      factor[r] = q8_weights<S>(scores + r * kKeyBlock, scales, n_visible[r], n_stored, w + r * kKeyBlock);
    }
    q8_value_rows<S, R, kAhead>(w, factor, values + q8_scale_bytes(d) + begin * 16, width, group_bytes,
                                (n_keys + 1) / 2, d, block.acc + begin);
  }
  S::merge(state, block, R, d);
}

template <class S, int D>
void q8_attend_block(const std::byte* queries, int64_t n_rows, int64_t d, int64_t n_wide, const std::byte* keys,
                     const std::byte* values, const int32_t* n_visible, const AttentionState& state,
                     std::byte* scratch) {
  using Group = void (*)(const std::byte*, int64_t, int64_t, const std::byte*, const std::byte*, const int32_t*,
                         const AttentionState&, std::byte*);
  static constexpr Group kGroups[kRowGroup] = {
      q8_attend_group<S, D, 1>, q8_attend_group<S, D, 2>, q8_attend_group<S, D, 3>, q8_attend_group<S, D, 4>,
      q8_attend_group<S, D, 5>, q8_attend_group<S, D, 6>, q8_attend_group<S, D, 7>, q8_attend_group<S, D, 8>};
  for (int64_t r = 0; r < n_rows; r += kRowGroup) {
    const int64_t count = n_rows - r < kRowGroup ? n_rows - r : kRowGroup;
    kGroups[count - 1](queries + r * q8_query_bytes(d, n_wide), d, n_wide, keys, values, n_visible + r,
                       {state.max + r, state.sum + r, state.acc + r * d}, scratch);
  }
}

template <class S>
void q8_attend_any(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                   int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  const int64_t n_wide = *q8_query(static_cast<const std::byte*>(queries), d).n_wide, group = key_begin / 16;
  const auto run = d == 64 ? q8_attend_block<S, 64> : d == 128 ? q8_attend_block<S, 128> : q8_attend_block<S, 0>;
  run(static_cast<const std::byte*>(queries), n_rows, d, n_wide, keys + group * q8_group_bytes(d, n_wide),
      values + group * q8_group_bytes(d), n_visible, state, scratch);
}

}  // namespace
}  // namespace glimpse
