// Attention around the kernel for AVX-512: stores into the panels, query preparation, merging and finishing of states.
#include <immintrin.h>

#include "kernels/attention/attention_isa.h"
#include "kernels/simd/exp2_avx512.h"
#include "kernels/simd/row_avx512.h"

namespace glimpse {
namespace {

// 16 floats as binary16 to nearest even; finite values that would become infinite stop at +-65504. min and max return
// their second operand where one is NaN.
inline __m256i saturated_half(__m512 x) {
  const __m512 clamped = _mm512_min_ps(_mm512_set1_ps(65504.0f), _mm512_max_ps(_mm512_set1_ps(-65504.0f), x));
  const __mmask16 infinite = _mm512_fpclass_ps_mask(x, 0x18);
  return _mm512_cvtps_ph(_mm512_mask_mov_ps(clamped, infinite, x), _MM_FROUND_TO_NEAREST_INT);
}

// 16 words of a row from word `first` on: 32 floats rounded to bf16 pairs, or 16 floats (of binary16 still to be
// rounded). Zero behind the row's end.
template <KvElement element>
inline __m512i load_words(const float* row, int64_t head_dim, int64_t first) {
  if constexpr (element != KvElement::kBf16) {
    return _mm512_castps_si512(load_row_avx512(row + first, head_dim - first));
  } else {
    const int64_t dim = 2 * first;
    return pack_bf16_avx512(load_row_avx512(row + dim, head_dim - dim),
                            load_row_avx512(row + dim + 16, head_dim - dim - 16));
  }
}

// n_groups groups of 16 rows, each transposed into [words][16 rows]; binary16 is transposed as floats.
template <KvElement element>
void store_key_groups(const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim, int64_t n_words,
                      std::byte* out) {
  constexpr int64_t kLineBytes = element == KvElement::kF16 ? 32 : 64;
  for (int64_t g = 0; g < n_groups; ++g, rows += 16 * ld, out += n_words * kLineBytes) {
    for (int64_t first = 0; first < n_words; first += 16) {
      __m512i words[16];
      for (int i = 0; i < 16; ++i) words[i] = load_words<element>(rows + i * ld, head_dim, first);
      transpose_avx512(words);
      const int64_t count = n_words - first < 16 ? n_words - first : 16;
      for (int64_t i = 0; i < count; ++i) {
        std::byte* to = out + (first + i) * kLineBytes;
        if constexpr (element == KvElement::kF16) {
          _mm256_store_si256(reinterpret_cast<__m256i*>(to), saturated_half(_mm512_castsi512_ps(words[i])));
        } else {
          _mm512_store_si512(to, words[i]);
        }
      }
    }
  }
}

}  // namespace

void store_key_groups_avx512(KvElement element, const float* rows, int64_t ld, int64_t n_groups, int64_t head_dim,
                             int64_t d, std::byte* group) {
  if (element == KvElement::kF16) return store_key_groups<KvElement::kF16>(rows, ld, n_groups, head_dim, d, group);
  if (element == KvElement::kF32) return store_key_groups<KvElement::kF32>(rows, ld, n_groups, head_dim, d, group);
  store_key_groups<KvElement::kBf16>(rows, ld, n_groups, head_dim, d / 2, group);
}

void store_value_rows_avx512(KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim, int64_t d,
                             std::byte* out) {
  const int64_t step = element == KvElement::kBf16 ? 2 : 1;
  const int64_t bytes = element == KvElement::kF16 ? 2 : 4;  // of one dimension
  for (int64_t r = 0; r < n; r += step, rows += step * ld, out += d * bytes) {
    for (int64_t i = 0; i < d; i += 16) {
      const __m512 even = load_row_avx512(rows + i, head_dim - i);
      if (element == KvElement::kF16) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(out + i * 2), saturated_half(even));
        continue;
      }
      if (element == KvElement::kF32) {
        _mm512_store_ps(out + i * 4, even);
        continue;
      }
      const __m512 odd = load_row_avx512(rows + ld + i, head_dim - i);
      const __m512i low = _mm512_srli_epi32(round_bf16_avx512(even), 16);
      const __m512i high = _mm512_and_si512(round_bf16_avx512(odd), _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
      _mm512_store_si512(out + i * 4, _mm512_or_si512(low, high));
    }
  }
}

void prepare_queries_avx512(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out) {
  for (int64_t i = 0; i < d; i += 16) {
    const __m512 x = _mm512_mul_ps(load_row_avx512(q + i, head_dim - i), _mm512_set1_ps(scale));
    if (element != KvElement::kBf16) {
      _mm512_store_ps(static_cast<float*>(out) + i, x);
    } else {
      _mm256_store_si256(reinterpret_cast<__m256i*>(static_cast<uint16_t*>(out) + i), pack_bf16_avx512(x));
    }
  }
}

void merge_attention_avx512(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {
  for (int64_t first = 0; first < n_rows; first += 16) {
    const __mmask16 rows = lanes_below_avx512(n_rows - first);
    const __m512 old_max = _mm512_maskz_loadu_ps(rows, state.max + first);
    const __m512 old_sum = _mm512_maskz_loadu_ps(rows, state.sum + first);
    const __m512 add_max = _mm512_maskz_loadu_ps(rows, block.max + first);
    const __m512 add_sum = _mm512_maskz_loadu_ps(rows, block.sum + first);
    const __mmask16 changed = _mm512_mask_cmp_ps_mask(rows, add_sum, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __mmask16 copied = _mm512_mask_cmp_ps_mask(changed, old_sum, _mm512_setzero_ps(), _CMP_EQ_OQ);
    const __m512 max = _mm512_mask_mov_ps(_mm512_max_ps(old_max, add_max), copied, add_max);
    const __m512 a = exp2_nonpositive_avx512(_mm512_sub_ps(old_max, max));
    const __m512 b = exp2_nonpositive_avx512(_mm512_sub_ps(add_max, max));
    const __m512 sum = _mm512_fmadd_ps(add_sum, b, _mm512_mul_ps(old_sum, a));
    _mm512_mask_storeu_ps(state.max + first, changed, max);
    _mm512_mask_storeu_ps(state.sum + first, changed, _mm512_mask_mov_ps(sum, copied, add_sum));
    alignas(64) float scale_old[16], scale_add[16];
    _mm512_store_ps(scale_old, a);
    _mm512_store_ps(scale_add, b);
    for (int r = 0; r < 16; ++r) {
      if (((changed >> r) & 1) == 0) continue;
      float* acc = state.acc + (first + r) * d;
      const float* add = block.acc + (first + r) * d;
      if (((copied >> r) & 1) != 0) {
        for (int64_t i = 0; i < d; i += 16) _mm512_storeu_ps(acc + i, _mm512_loadu_ps(add + i));
        continue;
      }
      const __m512 ra = _mm512_set1_ps(scale_old[r]), rb = _mm512_set1_ps(scale_add[r]);
      for (int64_t i = 0; i < d; i += 16) {
        const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(acc + i), ra);
        _mm512_storeu_ps(acc + i, _mm512_fmadd_ps(_mm512_loadu_ps(add + i), rb, old));
      }
    }
  }
}

void finish_attention_avx512(const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows) {
  const int64_t d = (head_dim + 15) / 16 * 16;
  for (int64_t r = 0; r < n_rows; ++r) {
    const __m512 scale = _mm512_set1_ps(state.sum[r] == 0 ? 0.0f : 1.0f / state.sum[r]);
    for (int64_t i = 0; i < head_dim; i += 16) {
      const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(state.acc + r * d + i), scale);
      store_row_avx512(out_rows[r] + i, head_dim - i, x);
    }
  }
}

}  // namespace glimpse
