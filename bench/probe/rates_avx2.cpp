#include <immintrin.h>

#include "bench/probe/rates.h"

namespace glimpse::bench {
namespace {

constexpr int kChains = 12;  // two multipliers, latency 4 to 5
constexpr int kSteps = 1024;

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
  __m256 sums[kChains], a = _mm256_set1_ps(1.0e-3f);
  for (int c = 0; c < kChains; ++c) sums[c] = _mm256_set1_ps(static_cast<float>(c));
  double done = 0;
  while (done < operations) {
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) sums[c] = _mm256_fmadd_ps(a, a, sums[c]);
    }
    done += 2.0 * 8 * kChains * kSteps;
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_ps(sums[0], sums[c]);
  *sink = _mm256_cvtss_f32(sums[0]);
  return done;
}

double int8_rate_avx2(double operations, float* sink) {
  // Unrolled all over and in assembly: or gcc 12 keeps the sums in memory, at half the rate.
  const __m256i codes = _mm256_set1_epi8(3), values = _mm256_set1_epi8(-2);
  __m256i sums[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sums[c] = _mm256_set1_epi16(static_cast<short>(c));
  double done = 0;
  while (done < operations) {
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) {
        __m256i products;
        __asm__ volatile(
            "vpmaddubsw %[values], %[codes], %[products]\n\t"
            "vpaddw %[products], %[sum], %[sum]"
            : [sum] "+x"(sums[c]), [products] "=&x"(products)
            : [codes] "x"(codes), [values] "x"(values));
      }
    }
    done += 2.0 * 32 * kChains * kSteps;
  }
#pragma GCC unroll 12
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_epi16(sums[0], sums[c]);
  *sink = static_cast<float>(_mm256_extract_epi16(sums[0], 0));
  return done;
}

}  // namespace glimpse::bench
