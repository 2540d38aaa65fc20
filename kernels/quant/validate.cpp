// Finds blocks whose scales are not finite: a file damaged or quantised from NaN weights, which would poison every
// later activation.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/quant/blocks.h"
#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

constexpr uint32_t kHalfExponent = 0x7c00, kBf16Exponent = 0x7f80, kFloatExponent = 0x7f800000;

bool half_is_finite(uint16_t bits) {
  return (bits & kHalfExponent) != kHalfExponent;
}

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

/// fields: byte offsets of the block's half-precision scales.
template <typename Block, size_t... fields>
int64_t find_block(const std::byte* blocks, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, blocks += sizeof(Block)) {
    const auto finite_at = [blocks](size_t offset) {
      uint16_t bits;
      std::memcpy(&bits, blocks + offset, 2);
      return half_is_finite(bits);
    };
    if (!(finite_at(fields) && ...)) return i;
  }
  return -1;
}

}  // namespace

int64_t find_non_finite_block(DType type, const std::byte* blocks, int64_t n) {
  const int64_t n32 = n / kBlock32;
  const int64_t n256 = n / kSuperBlock;
  switch (type) {
    case DType::kF32:
      return find_word<uint32_t, kFloatExponent>(blocks, n);
    case DType::kF16:
      return find_word<uint16_t, kHalfExponent>(blocks, n);
    case DType::kBF16:
      return find_word<uint16_t, kBf16Exponent>(blocks, n);
    case DType::kQ4_0:
      return find_block<BlockQ4_0, offsetof(BlockQ4_0, d)>(blocks, n32);
    case DType::kQ4_1:
      return find_block<BlockQ4_1, offsetof(BlockQ4_1, d), offsetof(BlockQ4_1, m)>(blocks, n32);
    case DType::kQ5_0:
      return find_block<BlockQ5_0, offsetof(BlockQ5_0, d)>(blocks, n32);
    case DType::kQ5_1:
      return find_block<BlockQ5_1, offsetof(BlockQ5_1, d), offsetof(BlockQ5_1, m)>(blocks, n32);
    case DType::kQ8_0:
      return find_block<BlockQ8_0, offsetof(BlockQ8_0, d)>(blocks, n32);
    case DType::kIQ4_NL:
      return find_block<BlockIQ4_NL, offsetof(BlockIQ4_NL, d)>(blocks, n32);
    case DType::kQ2_K:
      return find_block<BlockQ2_K, offsetof(BlockQ2_K, d), offsetof(BlockQ2_K, dmin)>(blocks, n256);
    case DType::kQ3_K:
      return find_block<BlockQ3_K, offsetof(BlockQ3_K, d)>(blocks, n256);
    case DType::kQ4_K:
      return find_block<BlockQ4_K, offsetof(BlockQ4_K, d), offsetof(BlockQ4_K, dmin)>(blocks, n256);
    case DType::kQ5_K:
      return find_block<BlockQ5_K, offsetof(BlockQ5_K, d), offsetof(BlockQ5_K, dmin)>(blocks, n256);
    case DType::kQ6_K:
      return find_block<BlockQ6_K, offsetof(BlockQ6_K, d)>(blocks, n256);
    case DType::kIQ4_XS:
      return find_block<BlockIQ4_XS, offsetof(BlockIQ4_XS, d)>(blocks, n256);
    default:
      return -1;
  }
}

}  // namespace glimpse
