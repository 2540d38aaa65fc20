// 8-bit weights with AVX2 as 16-bit words: vpmaddwd multiplies two columns of 8 rows and adds them up in 32 bits,
// exactly. vpmaddubsw takes four columns at once, but its 16-bit sums have to be widened for every group, the weights'
// signs have to be moved to the activations for every column, and both compete for the multiply pipes: half the speed.
// Included only by matmul_int_avx2.cpp; internal linkage.
#pragma once

#include "kernels/matmul/act_view.h"
#include "kernels/matmul/matmul_int_tile.h"
#include "kernels/matmul/matmul_unpack.h"
#include "kernels/matmul/panel_expanded.h"
#include "kernels/matmul/panel_layout.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

/// sum += the products of two words each. Not intrinsics: gcc 12 loads all activations first and spills a sum (half the
/// speed), or copies the sums about.
GLIMPSE_INLINE void add_products(__m256i& sum, __m256i weights, __m256i values) {
  __m256i products;
  asm("vpmaddwd %[values], %[weights], %[products]\n\t"
      "vpaddd %[products], %[sum], %[sum]"
      : [sum] "+x"(sum), [products] "=&x"(products)
      : [weights] "x"(weights), [values] "x"(values));
}

/// The columns of one block of a piece of a panel. words: per pair of columns 16 rows x 2 int16.
struct WordColumns {
  const std::byte* words;
  const std::byte* scales;  // per block 16 floats
  int64_t n_blocks;
  bool resume;  // the totals so far lie in the output
};

/// 16 rows x n columns over the blocks of a piece. values: int16 activations, kWordChunk to a column; scales: the
/// activations' float scales of the first block, `stride` bytes to the next column. The order of README.md.
template <PanelFormat format, int n>
__attribute__((noinline)) void word_tile(const WordColumns& w, const int16_t* values, const std::byte* scales,
                                         int64_t stride, float* out, int64_t ld_out) {
  using V = Vec256;
  constexpr int kPairs = panel_layout(format).block / 2;
  alignas(32) float total[n][16];
#pragma GCC unroll 4
  for (int c = 0; c < n; ++c) {
#pragma GCC unroll 2
    for (int h = 0; h < 16; h += 8) V::store_f(total[c] + h, w.resume ? V::load_f(out + c * ld_out + h) : V::zero_f());
  }
  const std::byte* weights = w.words;
  for (int64_t b = 0; b < w.n_blocks; ++b) {
    V::I low[n], high[n];
#pragma GCC unroll 4
    for (int c = 0; c < n; ++c) low[c] = high[c] = V::zero();
    const int16_t* first = values + b * 2 * kPairs;
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      const V::I w_low = V::load(weights), w_high = V::load(weights + 32);
      weights += 64;
#pragma GCC unroll 4
      for (int c = 0; c < n; ++c) {
        const V::I a = V::broadcast32(first + c * kWordChunk + 2 * i);
        add_products(low[c], w_low, a);
        add_products(high[c], w_high, a);
      }
    }
    const V::F scale_low = V::load_f(w.scales + b * 64), scale_high = V::load_f(w.scales + b * 64 + 32);
#pragma GCC unroll 4
    for (int c = 0; c < n; ++c) {
      const V::F act_scale = V::broadcast_f(scales + c * stride + 4 * b);
      const V::F block_low = V::fma(V::to_float(low[c]), scale_low, V::zero_f());
      const V::F block_high = V::fma(V::to_float(high[c]), scale_high, V::zero_f());
      V::store_f(total[c], V::fma(block_low, act_scale, V::load_f(total[c])));
      V::store_f(total[c] + 8, V::fma(block_high, act_scale, V::load_f(total[c] + 8)));
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < n; ++c) {
#pragma GCC unroll 2
    for (int h = 0; h < 16; h += 8) V::store_f(out + c * ld_out + h, V::load_f(total[c] + h));
  }
}

/// Blocks of a packed panel -> words and scales.
template <PanelFormat format>
void expand_words(const uint8_t* panel, int64_t n_blocks, std::byte* words, std::byte* scales) {
  using V = Vec256;
  constexpr PanelLayout L = panel_layout(format);
  // Bytes 0 and 1 (2 and 3) of each lane to the upper bytes of its two words; an arithmetic shift extends the sign.
  const __m256i first = _mm256_set_epi8(13, -1, 12, -1, 9, -1, 8, -1, 5, -1, 4, -1, 1, -1, 0, -1,  //
                                        13, -1, 12, -1, 9, -1, 8, -1, 5, -1, 4, -1, 1, -1, 0, -1);
  const __m256i second = _mm256_set_epi8(15, -1, 14, -1, 11, -1, 10, -1, 7, -1, 6, -1, 3, -1, 2, -1,  //
                                         15, -1, 14, -1, 11, -1, 10, -1, 7, -1, 6, -1, 3, -1, 2, -1);
  for (int64_t b = 0; b < n_blocks; ++b) {
    for (int half = 0; half < V::kHalves; ++half) {
      const Unpacker<format, V, ByteSign::kSigned> w(panel + b * L.bytes, half, 0);
      std::byte* to = words + b * L.block * 32 + 32 * half;
      for (int g = 0; g < L.block / 4; ++g) {
        const __m256i codes = w.codes(g);
        V::store(to + 128 * g, _mm256_srai_epi16(_mm256_shuffle_epi8(codes, first), 8));
        V::store(to + 128 * g + 64, _mm256_srai_epi16(_mm256_shuffle_epi8(codes, second), 8));
      }
      V::store_f(scales + b * 64 + 32 * half, w.scale(0));
    }
  }
}

/// Columns [begin, end) of activations, `count` values from first_k on, as words.
inline void act_words(const ActView& act, int64_t begin, int64_t end, int64_t first_k, int64_t count, int16_t* to) {
  for (int64_t c = begin; c < end; ++c, to += kWordChunk) {
    const std::byte* from = act.data + c * act.row_bytes + first_k;
    for (int64_t k = 0; k < count; k += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + k));
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + k), _mm256_cvtepi8_epi16(bytes));
    }
  }
}

/// The driver for formats whose blocks have one scale, and signed bytes as codes.
template <PanelFormat format>
void run_words(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out,
               int64_t ld_out, std::byte* scratch) {
  constexpr PanelLayout L = panel_layout(format);
  static_assert(L.sub == L.block && L.offset == 128 && L.mins == MinKind::kNone && kWordChunk % L.block == 0);
  constexpr int kTile = 4;  // 8 sums, two weights and an activation in 16 registers
  constexpr int64_t chunk = kWordChunk / L.block;
  const int64_t n_blocks = (act.k + L.block - 1) / L.block;
  std::byte* scales_at = scratch + kWordChunk * 32;
  auto* values = reinterpret_cast<int16_t*>(scales_at + chunk * 64);
  for (int64_t begin = 0; begin < act.n; begin += kWordColumns) {
    const int64_t end = begin + kWordColumns < act.n ? begin + kWordColumns : act.n;
    for (int64_t first = 0; first < n_blocks; first += chunk) {
      const int64_t count = first + chunk < n_blocks ? chunk : n_blocks - first;
      const WordColumns w{scratch, scales_at, count, first != 0};
      act_words(act, begin, end, first * L.block, count * L.block, values);
      for (int64_t p = 0; p < n_panels; ++p) {
        const auto* panel = reinterpret_cast<const uint8_t*>(panels) + static_cast<uint64_t>(p) * panel_stride;
        expand_words<format>(panel + first * L.bytes, count, scratch, scales_at);
        const NextWeights next(reinterpret_cast<const uint8_t*>(panels), panel_stride, L,
                               {p, 1, n_panels, {first, first + count}, n_blocks, end == act.n});
        const auto tile = [&](int64_t c, auto function) GLIMPSE_INLINE_LAMBDA {
          function(w, values + (c - begin) * kWordChunk, act.data + c * act.row_bytes + act.scales_at + first * 4,
                   act.row_bytes, out + c * ld_out + 16 * p, ld_out);
        };
        int64_t c = begin;
        for (; c + kTile <= end; c += kTile) {
          next.prefetch((c - begin) / kTile, (end - begin) / kTile);
          tile(c, word_tile<format, kTile>);
        }
        if (end - c == 1) tile(c, word_tile<format, 1>);
        if (end - c == 2) tile(c, word_tile<format, 2>);
        if (end - c == 3) tile(c, word_tile<format, 3>);
      }
    }
  }
}

}  // namespace
}  // namespace glimpse
