#include <immintrin.h>

#include "bench/probe/rate_loop.h"
#include "bench/probe/rates.h"

namespace glimpse::bench {
namespace {

constexpr int kChains = 12;  // two multipliers, latency 4 to 5

}  // namespace

uint64_t read_bytes_avx2(const std::byte* data, size_t n_bytes) {
  __m256i sums[4] = {};
  for (size_t i = 0; i < n_bytes; i += 128) {
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) {
      sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + 32 * j)));
    }
  }
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes),
                     _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3])));
  return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3];
}

double fma_rate_avx2(double operations, float* sink) {
  const __m256 a = _mm256_set1_ps(1.0e-3f);
  const auto first = [](int c) { return _mm256_set1_ps(static_cast<float>(c)); };
  return rate_of<kChains, float>(operations, 2 * 8, sink, first,
                                 [&](__m256 sum) { return _mm256_fmadd_ps(a, a, sum); });
}

double int8_rate_avx2(double operations, float* sink) {
  const __m256i codes = _mm256_set1_epi8(3), values = _mm256_set1_epi8(-2);
  const auto first = [](int c) { return _mm256_set1_epi16(static_cast<short>(c)); };
  return rate_of<kChains, uint16_t>(operations, 2 * 32, sink, first, [&](__m256i sum) {
    __m256i products;  // in assembly, or gcc 12 keeps the sums in memory
    __asm__ volatile(
        "vpmaddubsw %[values], %[codes], %[products]\n\t"
        "vpaddw %[products], %[sum], %[sum]"
        : [sum] "+x"(sum), [products] "=&x"(products)
        : [codes] "x"(codes), [values] "x"(values));
    return sum;
  });
}

}  // namespace glimpse::bench
