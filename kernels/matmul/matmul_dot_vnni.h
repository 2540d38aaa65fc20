// Dot products with vpdpbusd, for 512-bit and 256-bit vectors alike: unsigned weight codes times signed activations,
// four products per lane and instruction, exact in int32. W is a vector type V with
//   dpbusd(sum, codes, values)   sum + products of four bytes each
//   add_dots(sum, codes, values) the same in place; not the intrinsic, at which gcc 12 copies sums about
//   dpwssd(sum, a, b)            sum + products of two int16 pairs
// Included only by matmul_int_*.cpp; everything has internal linkage.
#pragma once

#include "kernels/matmul/matmul_int_tile.h"

namespace glimpse {
namespace {

template <class W>
struct VnniDot {
  using V = typename W::V;
  using I = typename V::I;
  static constexpr ByteSign kSign = ByteSign::kUnsigned;
  static constexpr bool kRaised = true;

  static GLIMPSE_INLINE I dot_words(I sum, I a, I b) { return W::dpwssd(sum, a, b); }

  template <class Source, int n>
  static GLIMPSE_INLINE void dot(const typename Source::Part& w, int s, const std::byte* const* column,
                                 int64_t values_at, int64_t bias_at, I (&sum)[Source::kStrips][n]) {
    constexpr PanelLayout L = Source::L;
    constexpr int groups = L.sub / 4, strips = Source::kStrips;
    constexpr int chains = n * strips == 1 ? 2 : 1;  // one column alone would wait for its own sums
    I second = V::zero();
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
      I start = V::zero();
      if constexpr (L.is_signed()) start = V::sra(V::broadcast32(column[c] + bias_at), 7 - log2_of(Source::kOffset));
#pragma GCC unroll 2
      for (int r = 0; r < strips; ++r) sum[r][c] = start;
    }
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      I codes[strips];
#pragma GCC unroll 2
      for (int r = 0; r < strips; ++r) codes[r] = w.codes(s * groups + g, r);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        const I values = V::broadcast32(column[c] + values_at + 4 * g);
#pragma GCC unroll 2
        for (int r = 0; r < strips; ++r) {
          I& to = g % chains == 0 ? sum[r][c] : second;
          if constexpr (strips > 1) {
            W::add_dots(to, codes[r], values);
          } else {
            to = W::dpbusd(to, codes[r], values);
          }
        }
      }
    }
    if constexpr (chains == 2) sum[0][0] = V::add32(sum[0][0], second);
  }
};

/// The driver: few columns straight from the panels, many from expanded ones.
template <class K, PanelFormat format>
GLIMPSE_INLINE void run_vnni(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                             float* out, int64_t ld_out, std::byte* scratch) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(panels);
  if (act.n <= K::kDirectColumns) {
    run_direct<K, format>(bytes, panel_stride, n_panels, act, out, ld_out);
  } else {
    run_expanded<K, format>(bytes, panel_stride, n_panels, act, out, ld_out, scratch);
  }
}

}  // namespace
}  // namespace glimpse
