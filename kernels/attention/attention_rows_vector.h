// Attention around the kernel: stores into the panels, preparation of queries, merging and finishing of states.
// Included by attention_rows_avx2.cpp and attention_rows_avx512.cpp, each with its own vectors; everything has internal
// linkage.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention_isa.h"

namespace glimpse {
namespace {

// The words of one vector of a row, from word `first` on: two floats each, rounded to a bf16 pair, or one (of binary16
// still to be rounded). Zero behind the row's end.
template <class S, KvElement element>
inline typename S::I load_words(const float* row, int64_t head_dim, int64_t first) {
  if constexpr (element != KvElement::kBf16) {
    return S::as_int(S::load_row(row + first, head_dim - first));
  } else {
    const int64_t dim = 2 * first;
    return S::pack_bf16_pairs(S::load_row(row + dim, head_dim - dim),
                              S::load_row(row + dim + S::kLanes, head_dim - dim - S::kLanes));
  }
}

// n_groups groups of 16 rows, each transposed into [words][16 rows] by squares of as many as a vector has; binary16 is
// transposed as floats. n_words: a multiple of 8.
template <class S, KvElement element>
inline void store_key_groups_of(const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim, int64_t n_words,
                                std::byte* out) {
  constexpr int64_t kLaneBytes = element == KvElement::kF16 ? 2 : 4;
  for (int64_t g = 0; g < n_groups; ++g, rows += 16 * ld, out += n_words * 16 * kLaneBytes) {
    for (int64_t first = 0; first < n_words; first += S::kLanes) {
      const int64_t count = n_words - first < S::kLanes ? n_words - first : S::kLanes;
      for (int half = 0; half < 16; half += S::kLanes) {
        typename S::I words[S::kLanes];
        for (int i = 0; i < S::kLanes; ++i) words[i] = load_words<S, element>(rows + (half + i) * ld, head_dim, first);
        S::transpose(words);
        for (int64_t i = 0; i < count; ++i) {
          std::byte* to = out + ((first + i) * 16 + half) * kLaneBytes;
          if constexpr (element == KvElement::kF16) {
            S::store_saturated_f16(to, S::as_float(words[i]));
          } else {
            S::store(to, words[i]);
          }
        }
      }
    }
  }
}

template <class S>
inline void store_key_groups(KvElement element, const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim,
                             int64_t d, std::byte* group) {
  if (element == KvElement::kF16) {
    store_key_groups_of<S, KvElement::kF16>(rows, ld, n_groups, head_dim, d, group);
  } else if (element == KvElement::kF32) {
    store_key_groups_of<S, KvElement::kF32>(rows, ld, n_groups, head_dim, d, group);
  } else {
    store_key_groups_of<S, KvElement::kBf16>(rows, ld, n_groups, head_dim, d / 2, group);
  }
}

template <class S>
inline void store_value_rows(KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim, int64_t d,
                             std::byte* out) {
  const int64_t step = element == KvElement::kBf16 ? 2 : 1;
  const int64_t bytes = element == KvElement::kF16 ? 2 : 4;  // of one dimension
  for (int64_t r = 0; r < n; r += step, rows += step * ld, out += d * bytes) {
    for (int64_t i = 0; i < d; i += S::kLanes) {
      const typename S::F even = S::load_row(rows + i, head_dim - i);
      if (element == KvElement::kF16) {
        S::store_saturated_f16(out + i * 2, even);
      } else if (element == KvElement::kF32) {
        S::store(out + i * 4, S::as_int(even));
      } else {
        S::store(out + i * 4, S::interleave_bf16(even, S::load_row(rows + ld + i, head_dim - i)));
      }
    }
  }
}

template <class S>
inline void prepare_queries(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out) {
  const typename S::F by = S::set_f(scale);
  for (int64_t i = 0; i < d; i += S::kLanes) {
    const typename S::F x = S::mul(S::load_row(q + i, head_dim - i), by);
    if (element != KvElement::kBf16) {
      S::store_f(static_cast<float*>(out) + i, x);
    } else {
      S::store_bf16(static_cast<uint16_t*>(out) + i, x);
    }
  }
}

template <class S>
inline void merge_attention(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {
  using F = typename S::F;
  for (int64_t r = 0; r < n_rows; ++r) {
    if (block.sum[r] == 0) continue;  // false for NaN, which has to spread
    float* acc = state.acc + r * d;
    const float* add = block.acc + r * d;
    if (state.sum[r] == 0) {
      state.max[r] = block.max[r];
      state.sum[r] = block.sum[r];
      for (int64_t i = 0; i < d; i += S::kLanes) S::store_f(acc + i, S::load_f(add + i));
      continue;
    }
    const F old_max = S::set_f(state.max[r]), add_max = S::set_f(block.max[r]);
    const F max = S::max(old_max, add_max);
    const F a = S::exp2_nonpositive(S::sub(old_max, max)), b = S::exp2_nonpositive(S::sub(add_max, max));
    const F sum = S::fma(S::set_f(block.sum[r]), b, S::mul(S::set_f(state.sum[r]), a));
    state.max[r] = S::first(max);
    state.sum[r] = S::first(sum);
    for (int64_t i = 0; i < d; i += S::kLanes) {
      S::store_f(acc + i, S::fma(S::load_f(add + i), b, S::mul(S::load_f(acc + i), a)));
    }
  }
}

template <class S>
inline void finish_attention(const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows) {
  const int64_t d = (head_dim + 15) / 16 * 16;
  for (int64_t r = 0; r < n_rows; ++r) {
    const typename S::F scale = S::set_f(state.sum[r] == 0 ? 0.0f : 1.0f / state.sum[r]);
    for (int64_t i = 0; i < head_dim; i += S::kLanes) {
      S::store_row(out_rows[r] + i, head_dim - i, S::mul(S::load_f(state.acc + r * d + i), scale));
    }
  }
}

}  // namespace
}  // namespace glimpse

// The functions of attention_isa.h for one instruction set and its vector type.
#define GLIMPSE_DEFINE_ATTENTION_ROWS(isa, S)                                                                          \
  void store_key_groups_##isa(KvElement element, const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim,    \
                              int64_t d, std::byte* group) {                                                           \
    store_key_groups<S>(element, rows, ld, n_groups, head_dim, d, group);                                              \
  }                                                                                                                    \
  void store_value_rows_##isa(KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim,           \
                              int64_t d, std::byte* out) {                                                             \
    store_value_rows<S>(element, rows, ld, n, head_dim, d, out);                                                       \
  }                                                                                                                    \
  void prepare_queries_##isa(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out) { \
    prepare_queries<S>(element, q, scale, head_dim, d, out);                                                           \
  }                                                                                                                    \
  void merge_attention_##isa(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {    \
    merge_attention<S>(state, block, n_rows, d);                                                                       \
  }                                                                                                                    \
  void finish_attention_##isa(const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows) { \
    finish_attention<S>(state, n_rows, head_dim, out_rows);                                                            \
  }
