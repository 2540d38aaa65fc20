// SHA-256 (FIPS 180-4): names for content that nobody can make collide on purpose.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace glimpse {

using Sha256Digest = std::array<uint8_t, 32>;

/// Eats bytes in any number of pieces; how they were cut makes no difference.
class Sha256 {
 public:
  void add(std::span<const std::byte> bytes);
  /// An integer, as its eight bytes, the lowest first.
  void add(uint64_t word);
  /// Of all that was added. Nothing is added after it.
  Sha256Digest digest();

 private:
  void compress(const std::byte* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> rest_{};  // n_bytes_ % 64 of them
  uint64_t n_bytes_ = 0;
};

/// 64 lower-case digits.
std::string to_hex(const Sha256Digest& digest);

}  // namespace glimpse
