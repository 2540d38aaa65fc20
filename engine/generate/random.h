// The sampler's generator and exponential: same bits on every machine.
#pragma once

#include <bit>
#include <cstdint>

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

/// e^x for x <= 0, relative error below 1e-15; 0 below -700, so that no result is subnormal. The C library's exp is
/// within a bit of the truth but differs between versions and processors, and a draw must not.
inline double exp_nonpositive(double x) {
  // x = k ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^52 rounds to an integer and leaves k in the low bits.
  constexpr double kMagic = 0x1.8p52, kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;  // k * kLn2High is exact
  const double shifted = (x < -700.0 ? -700.0 : x) * kLog2E + kMagic;
  const double k = shifted - kMagic;
  const double r = ((x < -700.0 ? -700.0 : x) - k * kLn2High) - k * kLn2Low;
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
  const double scale = std::bit_cast<double>((std::bit_cast<uint64_t>(shifted) << 52) + std::bit_cast<uint64_t>(1.0));
  return x < -700.0 ? 0.0 : p * scale;
}

}  // namespace glimpse
