#include <immintrin.h>

#include "bench/probe/rate_loop.h"
#include "bench/probe/rates.h"

namespace glimpse::bench {

double int8_rate_avx512vnni(double operations, float* sink) {
  const __m512i codes = _mm512_set1_epi32(0x03030303), values = _mm512_set1_epi32(static_cast<int>(0xfefefefeu));
  const auto first = [](int c) { return _mm512_set1_epi32(c); };
  return rate_of<16, int32_t>(operations, 2 * 64, sink, first,
                              [&](__m512i sum) { return _mm512_dpbusd_epi32(sum, codes, values); });
}

}  // namespace glimpse::bench
