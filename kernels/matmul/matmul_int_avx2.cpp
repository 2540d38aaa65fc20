// Integer formats with AVX2: the 16-row panel as two halves of 8 rows. Codes of up to 6 bits: vpmaddubsw into 16-bit
// sums that are widened before they could overflow. 8-bit weights: vpmaddubsw of |w| and a * sign(w), at most 2 * 128 *
// 127 = 32512, widened at once. Sums are exact, so results equal those of every other ISA bit for bit.
#include "kernels/matmul/matmul_int_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/matmul/matmul_words_avx2.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

constexpr bool is_wide(const PanelLayout& l) {
  return l.offset == 128;
}  // 8-bit weights
/// Groups that are added in 16 bits, as a power of two: each adds at most 2 * code * 127.
constexpr int safe_groups(const PanelLayout& l) {
  const int max_code = (1 << (l.low_bits + l.high_bits)) - 1;
  int groups = l.sub / 4;
  while (groups * 2 * max_code * 127 > 32767) groups /= 2;
  return groups;
}

/// sum += the products of two bytes each, in 16 bits. Not intrinsics: gcc 12 loads the activations of several groups
/// first and spills sums.
GLIMPSE_INLINE void add_products16(__m256i& sum, __m256i codes, __m256i values) {
  __m256i products;
  asm("vpmaddubsw %[values], %[codes], %[products]\n\t"
      "vpaddw %[products], %[sum], %[sum]"
      : [sum] "+x"(sum), [products] "=&x"(products)
      : [codes] "x"(codes), [values] "x"(values));
}

struct Avx2 {
  using V = Vec256;
  using I = V::I;
  static constexpr ByteSign kSign = ByteSign::kSigned;
  static constexpr bool kRaised = false;
  // 6 16-bit sums and 6 block sums beside two weights, an activation and a product in 16 registers.
  static constexpr int kTileColumns = 3;
  static constexpr int64_t kColumnBlock = 96;  // for the 256 KB of L2 cache of the oldest CPUs
  static constexpr int kDirectTile = 4;
  static constexpr int kDirectColumns = 8;

  static GLIMPSE_INLINE I dot_words(I sum, I a, I b) { return V::add32(sum, _mm256_madd_epi16(a, b)); }

  template <class Source, int n>
  static GLIMPSE_INLINE void dot(const typename Source::Part& w, int s, const std::byte* const* column,
                                 int64_t values_at, int64_t bias_at, I (&sum)[Source::kStrips][n]) {
    constexpr PanelLayout L = Source::L;
    constexpr int groups = L.sub / 4, strips = Source::kStrips;
    // Runs of groups that are added in 16 bits; with several columns straight from a packed panel no more than 4:
    // longer ones make gcc 12 spill (Q4_K 178 GOP/s against 197).
    constexpr int safe = is_wide(L) ? 1 : safe_groups(L), run = strips == 1 && n > 1 && safe > 4 ? 4 : safe;
    const I ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int first = 0; first < groups; first += run) {
      I narrow[strips][n];
#pragma GCC unroll 8
      for (int i = 0; i < run; ++i) {
        const int g = first + i;
        I codes[strips], magnitude[strips];
#pragma GCC unroll 2
        for (int r = 0; r < strips; ++r) {
          codes[r] = w.codes(s * groups + g, r);
          magnitude[r] = is_wide(L) ? _mm256_abs_epi8(codes[r]) : codes[r];
        }
#pragma GCC unroll 8
        for (int c = 0; c < n; ++c) {
          const I values = V::broadcast32(column[c] + values_at + 4 * g);
#pragma GCC unroll 2
          for (int r = 0; r < strips; ++r) {
            const I signed_values = is_wide(L) ? _mm256_sign_epi8(values, codes[r]) : values;
            if (i == 0) {
              narrow[r][c] = _mm256_maddubs_epi16(magnitude[r], signed_values);
            } else if constexpr (strips > 1) {
              add_products16(narrow[r][c], magnitude[r], signed_values);
            } else {
              narrow[r][c] = _mm256_add_epi16(narrow[r][c], _mm256_maddubs_epi16(magnitude[r], signed_values));
            }
          }
        }
      }
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
#pragma GCC unroll 2
        for (int r = 0; r < strips; ++r) {
          const I widened = _mm256_madd_epi16(narrow[r][c], ones);
          sum[r][c] = first == 0 ? widened : V::add32(sum[r][c], widened);
        }
      }
    }
    if constexpr (L.is_signed() && !is_wide(L)) {
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const I offset = V::sra(V::broadcast32(column[c] + bias_at), 7 - log2_of(L.offset));
#pragma GCC unroll 2
        for (int r = 0; r < strips; ++r) sum[r][c] = V::add32(sum[r][c], offset);
      }
    }
  }
};

template <PanelFormat format>
GLIMPSE_INLINE void run(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                        float* out, int64_t ld_out, std::byte* scratch) {
  constexpr PanelLayout L = panel_layout(format);
  const auto* bytes = reinterpret_cast<const uint8_t*>(panels);
  if (act.n <= Avx2::kDirectColumns) {
    run_direct<Avx2, format>(bytes, panel_stride, n_panels, act, out, ld_out);
  } else if constexpr (is_wide(L) && L.sub == L.block) {
    run_words<format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);
  } else {
    run_expanded<Avx2, format>(bytes, panel_stride, n_panels, act, out, ld_out, scratch);
  }
}

}  // namespace

#define GLIMPSE_AVX2(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run<PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);                          \
  }
#define GLIMPSE_BLOCK_32(type, name) GLIMPSE_AVX2(matmul_##name##_int8x32_avx2, type)
#define GLIMPSE_BLOCK_256(type, name) GLIMPSE_AVX2(matmul_##name##_int8x128k_avx2, type)
#include "kernels/quant/block_formats.inc"
GLIMPSE_AVX2(matmul_i8x32_int8x32mixed_avx2, kI8x32)
#undef GLIMPSE_AVX2

}  // namespace glimpse
