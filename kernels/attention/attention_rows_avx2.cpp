// Attention around the kernel for AVX2: stores into the panels, query preparation, merging and finishing of states.
#include <immintrin.h>

#include "kernels/attention/attention_isa.h"
#include "kernels/simd/exp2_avx2.h"
#include "kernels/simd/row_avx2.h"

namespace glimpse {
namespace {

// 8 floats as binary16 to nearest even; finite values that would become infinite stop at +-65504. min and max return
// their second operand where one is NaN.
inline __m128i saturated_half(__m256 x) {
  const __m256 limit = _mm256_set1_ps(65504.0f), sign = _mm256_set1_ps(-0.0f);
  const __m256 clamped = _mm256_min_ps(limit, _mm256_max_ps(_mm256_xor_ps(limit, sign), x));
  const __m256 infinite = _mm256_cmp_ps(_mm256_andnot_ps(sign, x), _mm256_set1_ps(__builtin_inff()), _CMP_EQ_OQ);
  return _mm256_cvtps_ph(_mm256_blendv_ps(clamped, x, infinite), _MM_FROUND_TO_NEAREST_INT);
}

// 8 words of a row from word `first` on: 16 floats rounded to bf16 pairs, or 8 floats (of binary16 still to be
// rounded). Zero behind the row's end.
template <KvElement element>
inline __m256i load_words(const float* row, int64_t head_dim, int64_t first) {
  if constexpr (element != KvElement::kBf16) {
    return _mm256_castps_si256(load_row_avx2(row + first, head_dim - first));
  } else {
    const int64_t dim = 2 * first;
    return pack_bf16_avx2(load_row_avx2(row + dim, head_dim - dim), load_row_avx2(row + dim + 8, head_dim - dim - 8));
  }
}

// n_groups groups of 16 rows, each transposed into [words][16 rows] by quarters of 8 x 8; binary16 is transposed as
// floats. n_words: a multiple of 8.
template <KvElement element>
void store_key_groups(const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim, int64_t n_words,
                      std::byte* out) {
  constexpr int64_t kLaneBytes = element == KvElement::kF16 ? 2 : 4;
  for (int64_t g = 0; g < n_groups; ++g, rows += 16 * ld, out += n_words * 16 * kLaneBytes) {
    for (int64_t first = 0; first < n_words; first += 8) {
      for (int half = 0; half < 16; half += 8) {
        __m256i words[8];
        for (int i = 0; i < 8; ++i) words[i] = load_words<element>(rows + (half + i) * ld, head_dim, first);
        transpose_avx2(words);
        for (int i = 0; i < 8; ++i) {
          std::byte* to = out + ((first + i) * 16 + half) * kLaneBytes;
          if constexpr (element == KvElement::kF16) {
            _mm_store_si128(reinterpret_cast<__m128i*>(to), saturated_half(_mm256_castsi256_ps(words[i])));
          } else {
            _mm256_store_si256(reinterpret_cast<__m256i*>(to), words[i]);
          }
        }
      }
    }
  }
}

}  // namespace

void store_key_groups_avx2(KvElement element, const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim,
                           int64_t d, std::byte* group) {
  if (element == KvElement::kF16) return store_key_groups<KvElement::kF16>(rows, ld, n_groups, head_dim, d, group);
  if (element == KvElement::kF32) return store_key_groups<KvElement::kF32>(rows, ld, n_groups, head_dim, d, group);
  store_key_groups<KvElement::kBf16>(rows, ld, n_groups, head_dim, d / 2, group);
}

void store_value_rows_avx2(KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim, int64_t d,
                           std::byte* out) {
  const int64_t step = element == KvElement::kBf16 ? 2 : 1;
  const int64_t bytes = element == KvElement::kF16 ? 2 : 4;  // of one dimension
  for (int64_t r = 0; r < n; r += step, rows += step * ld, out += d * bytes) {
    for (int64_t i = 0; i < d; i += 8) {
      const __m256 even = load_row_avx2(rows + i, head_dim - i);
      if (element == KvElement::kF16) {
        _mm_store_si128(reinterpret_cast<__m128i*>(out + i * 2), saturated_half(even));
        continue;
      }
      if (element == KvElement::kF32) {
        _mm256_store_ps(reinterpret_cast<float*>(out + i * 4), even);
        continue;
      }
      const __m256i low = _mm256_srli_epi32(round_bf16_avx2(even), 16);
      const __m256i high = round_bf16_avx2(load_row_avx2(rows + ld + i, head_dim - i));
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + i * 4), _mm256_blend_epi16(low, high, 0xaa));
    }
  }
}

void prepare_queries_avx2(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out) {
  for (int64_t i = 0; i < d; i += 16) {
    const __m256 c = _mm256_set1_ps(scale);
    const __m256 x0 = _mm256_mul_ps(load_row_avx2(q + i, head_dim - i), c);
    const __m256 x1 = _mm256_mul_ps(load_row_avx2(q + i + 8, head_dim - i - 8), c);
    if (element != KvElement::kBf16) {
      _mm256_store_ps(static_cast<float*>(out) + i, x0);
      _mm256_store_ps(static_cast<float*>(out) + i + 8, x1);
    } else {
      _mm256_store_si256(reinterpret_cast<__m256i*>(static_cast<uint16_t*>(out) + i), pack_bf16_avx2(x0, x1));
    }
  }
}

void merge_attention_avx2(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {
  for (int64_t r = 0; r < n_rows; ++r) {
    if (block.sum[r] == 0) continue;  // false for NaN, which has to spread
    float* acc = state.acc + r * d;
    const float* add = block.acc + r * d;
    if (state.sum[r] == 0) {
      state.max[r] = block.max[r];
      state.sum[r] = block.sum[r];
      for (int64_t i = 0; i < d; i += 8) _mm256_storeu_ps(acc + i, _mm256_loadu_ps(add + i));
      continue;
    }
    const __m256 old_max = _mm256_set1_ps(state.max[r]), add_max = _mm256_set1_ps(block.max[r]);
    const __m256 max = _mm256_max_ps(old_max, add_max);
    const __m256 a = exp2_nonpositive_avx2(_mm256_sub_ps(old_max, max));
    const __m256 b = exp2_nonpositive_avx2(_mm256_sub_ps(add_max, max));
    const __m256 sum = _mm256_fmadd_ps(_mm256_set1_ps(block.sum[r]), b, _mm256_mul_ps(_mm256_set1_ps(state.sum[r]), a));
    state.max[r] = _mm256_cvtss_f32(max);
    state.sum[r] = _mm256_cvtss_f32(sum);
    for (int64_t i = 0; i < d; i += 8) {
      const __m256 old = _mm256_mul_ps(_mm256_loadu_ps(acc + i), a);
      _mm256_storeu_ps(acc + i, _mm256_fmadd_ps(_mm256_loadu_ps(add + i), b, old));
    }
  }
}

void finish_attention_avx2(const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows) {
  const int64_t d = (head_dim + 15) / 16 * 16;
  for (int64_t r = 0; r < n_rows; ++r) {
    const __m256 scale = _mm256_set1_ps(state.sum[r] == 0 ? 0.0f : 1.0f / state.sum[r]);
    for (int64_t i = 0; i < head_dim; i += 8) {
      const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(state.acc + r * d + i), scale);
      store_row_avx2(out_rows[r] + i, head_dim - i, x);
    }
  }
}

}  // namespace glimpse
