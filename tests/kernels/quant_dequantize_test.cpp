#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "engine/base/block_format.h"
#include "engine/base/half.h"
#include "kernels/quant/quant.h"
#include "tests/kernels/quant_fixture.h"

namespace glimpse {
namespace {

// Every type of quantised weights.
std::vector<DType> quantised() {
  std::vector<DType> types;
  for (const BlockFormat& f : kBlockFormats) {
    if (f.info.is_weight && f.is_quantised()) types.push_back(f.info.type);
  }
  return types;
}

// Where gguf-py's script found the halves of a block: a second opinion.
std::vector<uint32_t> half_offsets(const QuantSections& sections, DType type) {
  const std::vector<std::byte>& bytes = sections.at(std::string(dtype_name(type)) + ".halves");
  std::vector<uint32_t> offsets(bytes.size() / 4);
  for (size_t i = 0; i < offsets.size(); ++i) std::memcpy(&offsets[i], &bytes[4 * i], 4);
  return offsets;
}

TEST(QuantTypes, AreTheTypesOfTheFixtures) {
  std::set<std::string> names;
  for (const auto& [name, content] : read_quant_sections("dequantize.bin"))
    names.insert(name.substr(0, name.find('.')));
  for (const DType type : quantised()) EXPECT_EQ(names.erase(dtype_name(type)), 1u) << dtype_name(type);
  EXPECT_TRUE(names.empty()) << *names.begin();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) EXPECT_TRUE(is_weight_type(type));
  for (const DType type : {DType::kQ8_1, DType::kQ8_K, DType::kI32, DType::kF64, DType::kI8x32}) {
    EXPECT_FALSE(is_weight_type(type)) << dtype_name(type);
  }
  EXPECT_FALSE(is_weight_type(static_cast<DType>(4)));  // removed from ggml
}

TEST(Dequantize, EqualsGgufPyBitForBitOnRandomAndExtremeBlocks) {
  const QuantSections sections = read_quant_sections("dequantize.bin");
  for (const DType type : quantised()) {
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
  for (const DType type : quantised()) {
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

TEST(FindNonFiniteBlock, NamesTheFirstBlockWithABadScaleInAnyPosition) {
  const QuantSections sections = read_quant_sections("dequantize.bin");
  for (const DType type : quantised()) {
    const DTypeInfo& info = dtype_info(type);
    constexpr int kBlocks = 5;
    const int64_t n = int64_t{kBlocks} * info.block_length;
    for (const uint32_t offset : half_offsets(sections, type)) {
      for (const uint16_t bad : std::initializer_list<uint16_t>{0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff}) {
        for (int block = 0; block < kBlocks; ++block) {
          std::vector<std::byte> bytes(kBlocks * info.block_bytes + 1);
          std::byte* blocks = bytes.data() + 1;
          for (int later = block; later < kBlocks; ++later) {
            std::memcpy(blocks + static_cast<size_t>(later) * info.block_bytes + offset, &bad, 2);
          }
          EXPECT_EQ(find_non_finite_block(type, blocks, n), block) << info.name << " offset " << offset;
          EXPECT_EQ(find_non_finite_block(type, blocks, int64_t{block} * info.block_length), -1) << info.name;
        }
      }
    }
  }
}

TEST(FindNonFiniteBlock, KnowsScalesThatAreNoHalves) {
  const auto bad_block = [](DType type, std::initializer_list<std::pair<size_t, int>> bytes) {
    const DTypeInfo& info = dtype_info(type);
    std::vector<std::byte> blocks(2 * info.block_bytes);
    for (const auto& [at, value] : bytes) blocks[info.block_bytes + at] = static_cast<std::byte>(value);
    return find_non_finite_block(type, blocks.data(), 2 * int64_t{info.block_length});
  };
  // The largest element is 12 times 2^(e - 128): finite for 252, infinite for 253.
  EXPECT_EQ(bad_block(DType::kMXFP4, {{0, 252}}), -1);
  EXPECT_EQ(bad_block(DType::kMXFP4, {{0, 253}}), 1);
  EXPECT_EQ(bad_block(DType::kMXFP4, {{0, 255}}), 1);
  EXPECT_EQ(bad_block(DType::kIQ1_M, {{55, 0x7f}, {53, 0xbf}}), -1);  // 0x7b..
  EXPECT_EQ(bad_block(DType::kIQ1_M, {{55, 0x7f}, {53, 0xcf}}), 1);   // 0x7c..
  EXPECT_EQ(bad_block(DType::kIQ1_M, {{55, 0xff}, {53, 0xf0}}), 1);
}

TEST(FindNonFiniteBlock, BytesOutsideTheScalesMayBeAnything) {
  const QuantSections sections = read_quant_sections("dequantize.bin");
  for (const DType type : quantised()) {
    const DTypeInfo& info = dtype_info(type);
    std::vector<std::byte> blocks(3 * info.block_bytes, std::byte{0xff});
    for (const uint32_t offset : half_offsets(sections, type)) {
      const uint16_t largest = 0xfbff;
      for (size_t b = 0; b < 3; ++b) std::memcpy(blocks.data() + b * info.block_bytes + offset, &largest, 2);
    }
    if (half_offsets(sections, type).empty()) continue;  // KnowsScalesThatAreNoHalves
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
