#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/base/half.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/k_scales.h"
#include "kernels/quant/quant.h"
#include "tests/kernels/quant_fixture.h"

namespace glimpse {
namespace {

constexpr DType kQuantised[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,   DType::kQ2_K,
                                DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS};

TEST(QuantTypes, WeightTypesAreTheFifteenOfTheContract) {
  for (const DType type : kQuantised) EXPECT_TRUE(is_weight_type(type)) << dtype_name(type);
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) EXPECT_TRUE(is_weight_type(type));
  for (const DType type : {DType::kQ8_1, DType::kQ8_K, DType::kIQ2_XXS, DType::kI32, DType::kF64, DType::kMXFP4}) {
    EXPECT_FALSE(is_weight_type(type)) << dtype_name(type);
  }
  EXPECT_FALSE(is_weight_type(static_cast<DType>(4)));  // removed from ggml
}

TEST(QuantTypes, BlockStructsHaveTheSizesOfTheTypeTable) {
  EXPECT_EQ(sizeof(BlockQ4_0), dtype_info(DType::kQ4_0).block_bytes);
  EXPECT_EQ(sizeof(BlockQ4_1), dtype_info(DType::kQ4_1).block_bytes);
  EXPECT_EQ(sizeof(BlockQ5_0), dtype_info(DType::kQ5_0).block_bytes);
  EXPECT_EQ(sizeof(BlockQ5_1), dtype_info(DType::kQ5_1).block_bytes);
  EXPECT_EQ(sizeof(BlockQ8_0), dtype_info(DType::kQ8_0).block_bytes);
  EXPECT_EQ(sizeof(BlockQ2_K), dtype_info(DType::kQ2_K).block_bytes);
  EXPECT_EQ(sizeof(BlockQ3_K), dtype_info(DType::kQ3_K).block_bytes);
  EXPECT_EQ(sizeof(BlockQ4_K), dtype_info(DType::kQ4_K).block_bytes);
  EXPECT_EQ(sizeof(BlockQ5_K), dtype_info(DType::kQ5_K).block_bytes);
  EXPECT_EQ(sizeof(BlockQ6_K), dtype_info(DType::kQ6_K).block_bytes);
  EXPECT_EQ(sizeof(BlockIQ4_NL), dtype_info(DType::kIQ4_NL).block_bytes);
  EXPECT_EQ(sizeof(BlockIQ4_XS), dtype_info(DType::kIQ4_XS).block_bytes);
}

TEST(Dequantize, EqualsGgufPyBitForBitOnRandomAndExtremeBlocks) {
  const QuantSections sections = read_quant_sections("dequantize.bin");
  for (const DType type : kQuantised) {
    const std::string name = dtype_name(type);
    ASSERT_TRUE(sections.contains(name + ".blocks")) << name;
    const std::vector<std::byte>& blocks = sections.at(name + ".blocks");
    const std::vector<float> want = floats_of(sections.at(name + ".floats"));
    const uint32_t length = dtype_info(type).block_length;
    ASSERT_EQ(dtype_row_bytes(type, want.size()), blocks.size()) << name;
    std::vector<float> got(want.size());
    dequantize_row_ref(type, blocks.data(), got.data(), static_cast<int64_t>(got.size()));
    int n_nan = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      n_nan += std::isnan(want[i]);
      if (std::isnan(want[i]) && std::isnan(got[i])) continue;  // infinity times a zero quant; the sign is the CPU's
      ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
          << name << " block " << i / length << " element " << i % length << ": got " << got[i] << ", want " << want[i];
    }
    EXPECT_LE(n_nan, static_cast<int>(length)) << name << ": only the block of infinite scale may hold NaN";
  }
}

TEST(Dequantize, EachBlockStandsAloneAtAnyAlignment) {
  const QuantSections sections = read_quant_sections("dequantize.bin");
  for (const DType type : kQuantised) {
    const std::vector<std::byte>& blocks = sections.at(std::string(dtype_name(type)) + ".blocks");
    const DTypeInfo& info = dtype_info(type);
    const size_t n_blocks = blocks.size() / info.block_bytes;
    std::vector<float> whole(n_blocks * info.block_length);
    dequantize_row_ref(type, blocks.data(), whole.data(), static_cast<int64_t>(whole.size()));
    constexpr float kGuard = 12345.0f;
    for (size_t b = 0; b < n_blocks; ++b) {
      std::vector<std::byte> odd(info.block_bytes + 1);  // exact size: a read past the end is an asan error
      std::memcpy(odd.data() + 1, blocks.data() + b * info.block_bytes, info.block_bytes);
      std::vector<float> one(info.block_length + 2, kGuard);
      dequantize_row_ref(type, odd.data() + 1, one.data() + 1, info.block_length);
      EXPECT_EQ(one.front(), kGuard);
      EXPECT_EQ(one.back(), kGuard);
      EXPECT_EQ(std::memcmp(one.data() + 1, whole.data() + b * info.block_length, info.block_length * sizeof(float)), 0)
          << dtype_name(type) << " block " << b;
    }
  }
}

TEST(Dequantize, ScalarTypesConvertEveryHalfAndBf16) {
  std::vector<uint16_t> bits(0x10000);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> half(bits.size());
  std::vector<float> brain(bits.size());
  const auto n = static_cast<int64_t>(bits.size());
  dequantize_row_ref(DType::kF16, reinterpret_cast<const std::byte*>(bits.data()), half.data(), n);
  dequantize_row_ref(DType::kBF16, reinterpret_cast<const std::byte*>(bits.data()), brain.data(), n);
  for (uint32_t i = 0; i < bits.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(brain[i]), i << 16);
    ASSERT_EQ(std::bit_cast<uint32_t>(half[i]), std::bit_cast<uint32_t>(half_to_float(bits[i])));
  }
  std::vector<float> copy(half.size());
  dequantize_row_ref(DType::kF32, reinterpret_cast<const std::byte*>(half.data()), copy.data(), n);
  EXPECT_EQ(std::memcmp(copy.data(), half.data(), half.size() * sizeof(float)), 0);
}

TEST(KScales, PackedScalesUnpackToThemselves) {
  uint8_t min_bytes[12] = {};
  for (int k = 0; k < 8; ++k) pack_scale_min({(k * 37 + 5) % 64, (k * 23 + 40) % 64}, k, min_bytes);
  for (int k = 0; k < 8; ++k) {
    EXPECT_EQ(unpack_scale_min(min_bytes, k).scale, (k * 37 + 5) % 64);
    EXPECT_EQ(unpack_scale_min(min_bytes, k).min, (k * 23 + 40) % 64);
  }
  uint8_t q3_bytes[12] = {};
  for (int k = 0; k < 16; ++k) pack_scale_q3_k((k * 29 + 3) % 64, k, q3_bytes);
  for (int k = 0; k < 16; ++k) EXPECT_EQ(unpack_scale_q3_k(q3_bytes, k), (k * 29 + 3) % 64);
  BlockIQ4_XS block{};
  for (int k = 0; k < 8; ++k) pack_scale_iq4_xs((k * 31 + 7) % 64, k, block);
  for (int k = 0; k < 8; ++k) EXPECT_EQ(unpack_scale_iq4_xs(block, k), (k * 31 + 7) % 64);
}

struct HalfField {
  DType type;
  size_t offset;  // in the block
};

// Written out rather than taken from blocks.h: a second opinion on where the scales are.
constexpr HalfField kHalfFields[] = {
    {DType::kQ4_0, 0},   {DType::kQ4_1, 0},   {DType::kQ4_1, 2},  {DType::kQ5_0, 0},  {DType::kQ5_1, 0},
    {DType::kQ5_1, 2},   {DType::kQ8_0, 0},   {DType::kQ2_K, 80}, {DType::kQ2_K, 82}, {DType::kQ3_K, 108},
    {DType::kQ4_K, 0},   {DType::kQ4_K, 2},   {DType::kQ5_K, 0},  {DType::kQ5_K, 2},  {DType::kQ6_K, 208},
    {DType::kIQ4_NL, 0}, {DType::kIQ4_XS, 0}, {DType::kF16, 0},
};

TEST(FindNonFiniteBlock, NamesTheFirstBlockWithABadScaleInAnyPosition) {
  for (const HalfField& field : kHalfFields) {
    const DTypeInfo& info = dtype_info(field.type);
    constexpr int kBlocks = 5;
    const int64_t n = int64_t{kBlocks} * info.block_length;
    constexpr uint16_t kBad[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff};
    for (const uint16_t bad : kBad) {
      for (int block = 0; block < kBlocks; ++block) {
        std::vector<std::byte> bytes(kBlocks * info.block_bytes + 1);
        std::byte* blocks = bytes.data() + 1;
        for (int later = block; later < kBlocks; ++later) {
          std::memcpy(blocks + static_cast<size_t>(later) * info.block_bytes + field.offset, &bad, 2);
        }
        EXPECT_EQ(find_non_finite_block(field.type, blocks, n), block) << info.name << " offset " << field.offset;
        EXPECT_EQ(find_non_finite_block(field.type, blocks, int64_t{block} * info.block_length), -1) << info.name;
      }
    }
  }
}

TEST(FindNonFiniteBlock, BytesOutsideTheScalesMayBeAnything) {
  for (const DType type : kQuantised) {
    const DTypeInfo& info = dtype_info(type);
    std::vector<std::byte> blocks(3 * info.block_bytes, std::byte{0xff});
    for (const HalfField& field : kHalfFields) {
      if (field.type != type) continue;
      const uint16_t largest = 0xfbff;
      for (size_t b = 0; b < 3; ++b) std::memcpy(blocks.data() + b * info.block_bytes + field.offset, &largest, 2);
    }
    EXPECT_EQ(find_non_finite_block(type, blocks.data(), 3 * int64_t{info.block_length}), -1) << info.name;
  }
}

TEST(FindNonFiniteBlock, ScalarTypesNameTheElement) {
  const auto check = [](DType type, auto largest, auto infinity, auto nan) {
    std::vector<decltype(largest)> words(9, largest);
    const auto find = [&] {
      return find_non_finite_block(type, reinterpret_cast<const std::byte*>(words.data()), std::ssize(words));
    };
    EXPECT_EQ(find(), -1) << dtype_name(type);
    words[8] = infinity;
    EXPECT_EQ(find(), 8) << dtype_name(type);
    words[3] = nan;
    EXPECT_EQ(find(), 3) << dtype_name(type);
  };
  check(DType::kF32, uint32_t{0x7f7fffff}, uint32_t{0xff800000}, uint32_t{0x7f800001});
  check(DType::kBF16, uint16_t{0x7f7f}, uint16_t{0xff80}, uint16_t{0x7f81});
  check(DType::kF16, uint16_t{0x7bff}, uint16_t{0xfc00}, uint16_t{0x7c01});
}

}  // namespace
}  // namespace glimpse
