// Integer formats with vpdpbusd: unsigned weight codes times signed activations, four products per lane and
// instruction, exact in int32.
#include "kernels/matmul/matmul_int_tile.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/simd/vec_avx512.h"

namespace glimpse {
namespace {

struct Vnni512 {
  using V = Vec512;
  using I = V::I;
  static constexpr ByteSign kSign = ByteSign::kUnsigned;
  static constexpr bool kRaised = true;
  // 8 int32 sums, 8 block sums and 8 totals fill 24 of the 32 registers; 8 chains hide vpdpbusd's latency of 4.
  static constexpr int kTileColumns = 8;
  static constexpr int64_t kColumnBlock = 256;
  static constexpr int kDirectTile = 4;
  // Up to here reading the packed panel once per four columns is cheaper than expanding it.
  static constexpr int kDirectColumns = 16;

  static GLIMPSE_INLINE I dot_words(I sum, I a, I b) { return _mm512_dpwssd_epi32(sum, a, b); }

  template <class Source, int n>
  static GLIMPSE_INLINE void dot(const typename Source::Block& w, int s, const std::byte* const* column,
                                 int64_t values_at, int64_t bias_at, I* sum) {
    constexpr PanelLayout L = Source::L;
    constexpr int groups = L.sub / 4;
    constexpr int chains = n == 1 ? 2 : 1;  // one column alone would wait for its own sums
    I second = V::zero();
#pragma GCC unroll 8
    for (int c = 0; c < n; ++c) {
      sum[c] = V::zero();
      if constexpr (L.is_signed()) sum[c] = V::sra(V::broadcast32(column[c] + bias_at), 7 - log2_of(Source::kOffset));
    }
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const I codes = w.codes(s * groups + g);
#pragma GCC unroll 8
      for (int c = 0; c < n; ++c) {
        I& to = g % chains == 0 ? sum[c] : second;
        to = _mm512_dpbusd_epi32(to, codes, V::broadcast32(column[c] + values_at + 4 * g));
      }
    }
    if constexpr (chains == 2) sum[0] = V::add32(sum[0], second);
  }
};

template <PanelFormat format>
GLIMPSE_INLINE void run(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act,
                        float* out, int64_t ld_out, std::byte* scratch) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(panels);
  if (act.n <= Vnni512::kDirectColumns) {
    run_direct<Vnni512, format>(bytes, panel_stride, n_panels, act, out, ld_out);
  } else {
    run_expanded<Vnni512, format>(bytes, panel_stride, n_panels, act, out, ld_out, scratch);
  }
}

}  // namespace

#define GLIMPSE_VNNI(function, format)                                                                            \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte* scratch) {                                                             \
    run<PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out, scratch);                          \
  }
#define GLIMPSE_BLOCK_32(type, name) GLIMPSE_VNNI(matmul_##name##_int8x32_avx512vnni, type)
#define GLIMPSE_BLOCK_256(type, name) GLIMPSE_VNNI(matmul_##name##_int8x128k_avx512vnni, type)
#include "kernels/quant/block_formats.inc"
GLIMPSE_VNNI(matmul_i8x128_int8x128_avx512vnni, kI8x128)
#undef GLIMPSE_VNNI

}  // namespace glimpse
