#include "engine/base/finite_blocks.h"

#include <algorithm>
#include <cstring>

#include "engine/base/block_format.h"

namespace glimpse {
namespace {

constexpr uint32_t kHalfExponent = 0x7c00, kBf16Exponent = 0x7f80, kFloatExponent = 0x7f800000;

/// An element whose exponent is all ones is no number. Looked for in runs without a branch, which compilers turn into
/// vector code, so that the check keeps up with memory.
template <typename Word, uint32_t exponent>
int64_t find_word(const std::byte* words, int64_t n) {
  constexpr int64_t kRun = 512;
  constexpr auto kMask = static_cast<Word>(exponent);
  for (int64_t first = 0; first < n; first += kRun) {
    const int64_t count = std::min(kRun, n - first);
    Word run[kRun];
    std::memcpy(run, words + first * static_cast<int64_t>(sizeof(Word)), static_cast<size_t>(count) * sizeof(Word));
    Word found = 0;
    for (int64_t i = 0; i < count; ++i) found = static_cast<Word>(found | ((run[i] & kMask) == kMask));
    if (found == 0) continue;
    for (int64_t i = 0; i < count; ++i) {
      if ((run[i] & kMask) == kMask) return first + i;
    }
  }
  return -1;
}

bool half_is_finite(uint32_t bits) {
  return (bits & kHalfExponent) != kHalfExponent;
}
uint16_t word_at(const std::byte* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

bool is_finite(const BlockFormat& format, const std::byte* block) {
  const std::byte* d = block + format.d_at;
  if (format.m_at >= 0 && !half_is_finite(word_at(block + format.m_at))) return false;
  if (format.d_type == ScaleType::kHalf) return half_is_finite(word_at(d));
  // 2^(e - 128) times the largest value, 12, is more than a float holds from 253 on.
  if (format.d_type == ScaleType::kPower) return std::to_integer<int>(*d) < 253;
  // The exponent is in the two upper nibbles.
  return half_is_finite(static_cast<uint32_t>(word_at(d + 6) & 0xf000) | (word_at(d + 4) & 0xf000u) >> 4);
}

}  // namespace

int64_t find_non_finite_block(DType type, const std::byte* blocks, int64_t n) {
  if (type == DType::kF32) return find_word<uint32_t, kFloatExponent>(blocks, n);
  if (type == DType::kF16) return find_word<uint16_t, kHalfExponent>(blocks, n);
  if (type == DType::kBF16) return find_word<uint16_t, kBf16Exponent>(blocks, n);
  const BlockFormat format = block_format(type);
  if (!format.is_quantised() || format.is_own()) return -1;
  const int64_t n_blocks = n / format.length(), block_bytes = format.bytes();
  for (int64_t i = 0; i < n_blocks; ++i, blocks += block_bytes) {
    if (!is_finite(format, blocks)) return i;
  }
  return -1;
}

}  // namespace glimpse
