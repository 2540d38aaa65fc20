// The sampler's generator and exponential: same bits on every machine.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace glimpse {

/// xoshiro256** 1.0 seeded by splitmix64 (Blackman and Vigna, prng.di.unimi.it): any seed, 0 too, gives a good state.
class Xoshiro256 {
 public:
  explicit Xoshiro256(uint64_t seed = 0) {
    for (uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15u;
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      word = z ^ (z >> 31);
    }
  }

  uint64_t next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// In [0, 1), a multiple of 2^-53.
  double next_double() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_[4];
};

/// e^x for -700 <= x <= 0, relative error below 1e-15. No branch: loops over it compile to SIMD.
constexpr double exp_in_range(double x) {
  // x = k ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^52 rounds to an integer and leaves k in the low bits.
  constexpr double kMagic = 0x1.8p52, kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;  // k * kLn2High is exact
  const double shifted = x * kLog2E + kMagic;
  const double k = shifted - kMagic;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  // Taylor series to r^13: the next term is below 0.35^14 / 14! = 5e-18.
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * std::bit_cast<double>((std::bit_cast<uint64_t>(shifted) << 52) + std::bit_cast<uint64_t>(1.0));
}

/// x = e^x - e^-700 for every x <= 0, and exactly 0 from -700 on down: for every sum of probabilities the same as e^x.
/// The C library's exp differs between versions and processors, and a draw must not.
inline void exp_nonpositive(std::span<double> x) {
  constexpr double kLeast = exp_in_range(-700.0);
  double* values = x.data();
  const size_t n = x.size();
  // Two loops: in one, the compiler makes the clamped case a branch, and the loop no SIMD.
  for (size_t i = 0; i < n; ++i) values[i] = values[i] < -700.0 ? -700.0 : values[i];
  for (size_t i = 0; i < n; ++i) values[i] = exp_in_range(values[i]) - kLeast;
}

}  // namespace glimpse
