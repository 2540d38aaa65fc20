#include <immintrin.h>

#include "bench/probe/rate_loop.h"
#include "bench/probe/rates.h"

namespace glimpse::bench {

uint64_t read_bytes_avx512(const std::byte* data, size_t n_bytes) {
  __m512i sums[4] = {};
  for (size_t i = 0; i < n_bytes; i += 256) {
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) sums[j] = _mm512_xor_si512(sums[j], _mm512_load_si512(data + i + 64 * j));
  }
  alignas(64) uint64_t lanes[8];
  _mm512_store_si512(lanes, _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3])));
  uint64_t all = 0;
  for (const uint64_t lane : lanes) all ^= lane;
  return all;
}

double fma_rate_avx512(double operations, float* sink) {
  const __m512 a = _mm512_set1_ps(1.0e-3f);
  const auto first = [](int c) { return _mm512_set1_ps(static_cast<float>(c)); };
  return rate_of<16, float>(operations, 2 * 16, sink, first, [&](__m512 sum) { return _mm512_fmadd_ps(a, a, sum); });
}

}  // namespace glimpse::bench
