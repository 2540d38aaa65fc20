#include <immintrin.h>

#include "bench/probe/rate_loop.h"
#include "bench/probe/rates.h"

namespace glimpse::bench {

double int8_rate_avxvnni(double operations, float* sink) {
  const __m256i codes = _mm256_set1_epi32(0x03030303), values = _mm256_set1_epi32(static_cast<int>(0xfefefefeu));
  const auto first = [](int c) { return _mm256_set1_epi32(c); };
  return rate_of<12, int32_t>(operations, 2 * 32, sink, first,
                              [&](__m256i sum) { return _mm256_dpbusd_avx_epi32(sum, codes, values); });
}

}  // namespace glimpse::bench
