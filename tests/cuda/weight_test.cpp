// Weights in device memory: every type, every bit, there and back.
#include <gtest/gtest.h>

#include <set>

#include "engine/base/half.h"
#include "kernels/cuda/device_blocks.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/weight_unpack.h"

namespace glimpse::cuda {
namespace {

class DeviceWeight : public ::testing::TestWithParam<DType> {};
class DevicePlanes : public ::testing::TestWithParam<DType> {};  // of types whose blocks are planes in the file, too

// Random bytes: every code and every scale occurs. Scales are kept finite, as pack() demands.
std::vector<std::byte> random_blocks(DType type, int64_t rows, int64_t cols, Random& random) {
  const uint64_t row_bytes = dtype_row_bytes(type, static_cast<uint64_t>(cols));
  std::vector<std::byte> out;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<std::byte> row;
    for (uint64_t at = 0; at < row_bytes; at += dtype_info(type).block_bytes) {
      std::vector<std::byte> block;
      do {
        block = random.bytes(dtype_info(type).block_bytes);
      } while (find_non_finite_block(type, block.data(), dtype_info(type).block_length) >= 0);
      row.insert(row.end(), block.begin(), block.end());
    }
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

TEST_P(DevicePlanes, UnpacksToTheBytesOfTheFile) {
  const DType type = GetParam();
  Random random(7);
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>(1, 256), {17, 512}, {8, 1280}, {40, 256}}) {
    const std::vector<std::byte> bytes = random_blocks(type, rows, cols, random);
    const auto ops = host_ops();
    const auto packed = must(ops->pack(source_of(bytes, type, rows, cols), WeightPrecision::kAsStored));
    const auto& weight = static_cast<const CudaWeight&>(*packed);
    EXPECT_EQ(packed->n_bytes, ops->packed_bytes(type, rows, cols, WeightPrecision::kAsStored));
    const HostCopy copy(weight);
    const uint64_t row_bytes = dtype_row_bytes(type, static_cast<uint64_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<std::byte> row(row_bytes);
      unpack_device_row(weight.format, copy.view, r, row.data());
      ASSERT_EQ(std::memcmp(row.data(), bytes.data() + static_cast<uint64_t>(r) * row_bytes, row_bytes), 0)
          << "row " << r << " of " << rows << " x " << cols;
    }
  }
}

TEST_P(DeviceWeight, LooksUpRowsBitForBit) {
  const DType type = GetParam();
  Random random(8);
  constexpr int64_t kRows = 19, kCols = 768;
  const std::vector<std::byte> bytes = random_blocks(type, kRows, kCols, random);
  const auto ops = host_ops();
  const auto packed = must(ops->pack(source_of(bytes, type, kRows, kCols), WeightPrecision::kAsStored));
  std::vector<float> got(kCols), want(kCols);
  for (int64_t r = 0; r < kRows; ++r) {
    ops->unpack_row(*packed, r, got.data());
    dequantize_row_ref(type, bytes.data() + static_cast<uint64_t>(r) * dtype_row_bytes(type, kCols), want.data(),
                       kCols);
    for (size_t i = 0; i < kCols; ++i) {
      // -0 and 0 are the same weight: a fused multiply-add with a zero min loses the sign.
      ASSERT_EQ(got[i], want[i]) << "row " << r << ", column " << i;
    }
  }
}

TEST_P(DeviceWeight, TakesTheBytesOfItsBlocks) {
  const DType type = GetParam();
  const auto ops = host_ops();
  const uint64_t file = 128 * dtype_row_bytes(type, 1024);
  const uint64_t device = ops->packed_bytes(type, 128, 1024, WeightPrecision::kAsStored);
  constexpr uint64_t kBlocks = 128 * 4;
  if (has_device_blocks(type)) {
    const Format format = device_format(type);
    const uint64_t block = format == DType::kIQ1_M   ? 82
                           : format == DType::kIQ2_S ? 106
                           : format == DType::kQ2_K  ? 84
                                                     : 136;
    EXPECT_EQ(device, kBlocks * block);
  } else {
    // Q3_K's scales are a byte each instead of six bits.
    EXPECT_EQ(device, type == DType::kQ3_K ? file + kBlocks * 4 : file);
  }
}

TEST_P(DeviceWeight, PadsWithZeroWeights) {
  const DType type = GetParam();
  const int64_t block = block_columns(type);
  Random random(9);
  const int64_t cols = block == 1 ? 93 : block, rows = 3;
  const auto ops = host_ops();
  const auto bytes = random_blocks(type, rows, cols, random);
  const auto packed = must(ops->pack(source_of(bytes, type, rows, cols), WeightPrecision::kAsStored));
  CudaWeight padded;  // the same memory, as if the padding were weights
  padded.format = static_cast<const CudaWeight&>(*packed).format;
  padded.view = static_cast<const CudaWeight&>(*packed).view;
  padded.view.rows = padded.view.row_tiles * kTileRows;
  padded.view.cols = padded.view.column_tiles * kTileColumns;
  padded.cols = padded.view.cols;
  EXPECT_EQ(padded.view.rows, 16);
  std::vector<float> values(static_cast<size_t>(padded.view.cols));
  for (int64_t r = 0; r < padded.view.rows; ++r) {
    ops->unpack_row(padded, r, values.data());
    for (int64_t i = r < rows ? cols : 0; i < padded.view.cols; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], 0);
  }
}

// Every byte of every plane belongs to exactly one lane's loads.
TEST_P(DeviceWeight, PlanesDoNotOverlap) {
  const Format format = device_format(GetParam());
  WeightView w;
  const uint64_t total = lay_out(format, 24, 512, w);
  EXPECT_LE(w.high_at, w.scales_at);
  EXPECT_LE(w.scales_at, w.d_at);
  EXPECT_LE(static_cast<uint64_t>(w.d_at), total);
  for (const int64_t at : {w.high_at, w.scales_at, w.d_at}) EXPECT_EQ(at % 16, 0);
}

const auto kNameOfType = [](const auto& type) { return std::string(dtype_name(type.param)); };
std::vector<DType> types_of_planes() {
  std::vector<DType> types = weight_types();
  std::erase_if(types, has_device_blocks);
  return types;
}
INSTANTIATE_TEST_SUITE_P(Types, DeviceWeight, ::testing::ValuesIn(weight_types()), kNameOfType);
INSTANTIATE_TEST_SUITE_P(Types, DevicePlanes, ::testing::ValuesIn(types_of_planes()), kNameOfType);

TEST(DevicePack, ConvertsToTheWantedPrecision) {
  Random random(10);
  const std::vector<float> values = random.gaussian(4 * 96);
  const auto ops = host_ops();
  const auto half = quantized(DType::kF16, values, 4, 96);
  std::vector<float> row(96), want(96);
  const auto wide = must(ops->pack(source_of(half, DType::kF16, 4, 96), WeightPrecision::kF32));
  const auto rounded = must(ops->pack(source_of(half, DType::kF16, 4, 96), WeightPrecision::kBf16));
  for (int64_t r = 0; r < 4; ++r) {
    dequantize_row_ref(DType::kF16, half.data() + static_cast<uint64_t>(r) * 192, want.data(), 96);
    ops->unpack_row(*wide, r, row.data());
    EXPECT_EQ(row, want);
    ops->unpack_row(*rounded, r, row.data());
    for (size_t i = 0; i < 96; ++i) EXPECT_EQ(row[i], bf16_to_float(float_to_bf16(want[i])));
  }
  const auto q4 = quantized(DType::kQ4_0, values, 4, 96);
  EXPECT_EQ(must(ops->pack(source_of(q4, DType::kQ4_0, 4, 96), WeightPrecision::kBf16))->n_bytes,
            ops->packed_bytes(DType::kQ4_0, 4, 96, WeightPrecision::kAsStored));
}

TEST(DevicePack, MatricesLargerThanTheRingArriveWhole) {
  Random random(11);
  constexpr int64_t kRows = 9000, kCols = 512;  // 18 MB of floats, the ring has 16 MiB slots
  const std::vector<float> values = random.gaussian(kRows * kCols);
  const auto ops = host_ops();
  const auto packed = must(ops->pack(source_of(quantized(DType::kF32, values, kRows, kCols), DType::kF32, kRows, kCols),
                                     WeightPrecision::kAsStored));
  std::vector<float> row(kCols);
  for (const int64_t r : {int64_t{0}, int64_t{8191}, int64_t{8192}, kRows - 1}) {
    ops->unpack_row(*packed, r, row.data());
    EXPECT_EQ(row, std::vector<float>(values.begin() + r * kCols, values.begin() + (r + 1) * kCols)) << r;
  }
}

TEST(DevicePack, NamesTheRowOfABadWeight) {
  std::vector<float> values(12, 1.0f);
  values[7] = std::numeric_limits<float>::infinity();
  const auto ops = host_ops();
  const auto result =
      ops->pack(source_of(quantized(DType::kF32, values, 4, 3), DType::kF32, 4, 3), WeightPrecision::kAsStored);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kNumeric);
  EXPECT_NE(result.error().message.find("some.weight: row 2"), std::string::npos) << result.error().message;
  const std::vector<float> largest(4, std::numeric_limits<float>::max());  // rounds up to infinity
  EXPECT_EQ(ops->pack(source_of(quantized(DType::kF32, largest, 2, 2), DType::kF32, 2, 2), WeightPrecision::kBf16)
                .error()
                .code,
            ErrorCode::kNumeric);
}

TEST(DevicePack, OutOfDeviceMemoryNamesTheSizes) {
  if (on_gpu()) GTEST_SKIP() << "needs a device that is almost full";
  HostDeviceOptions options;
  options.memory_bytes = 100000;
  const auto ops = host_ops(options);
  const std::vector<float> values(128 * 256);
  const auto result =
      ops->pack(source_of(quantized(DType::kF32, values, 128, 256), DType::kF32, 128, 256), WeightPrecision::kAsStored);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kOutOfMemory);
  for (const char* text : {"some.weight", "131072 bytes", "are free"}) {
    EXPECT_NE(result.error().message.find(text), std::string::npos) << result.error().message;
  }
}

// Experts of one tensor: as many bytes as planned in as few pieces, with the values of each, until the last of them
// goes.
TEST(DevicePack, MatricesThatAreAlikeShareTheirMemory) {
  if (on_gpu()) GTEST_SKIP() << "others use its memory, too";
  constexpr int64_t kRows = 24, kCols = 256, kAlike = 5;
  constexpr DType kType = DType::kQ6_K;
  Random random(14);
  std::vector<std::vector<std::byte>> bytes;
  for (int64_t i = 0; i < 2 * kAlike; ++i) bytes.push_back(random_blocks(kType, kRows, kCols, random));
  const auto device = std::make_shared<NotingDevice>(make_host_device({}));
  const auto ops = must(CudaOps::create(device, 1));
  const auto pack = [&](int64_t i, const std::string& name) {
    WeightSource source = source_of(bytes[static_cast<size_t>(i)], kType, kRows, kCols);
    source.name = name;
    source.n_alike = kAlike;
    return ops->pack(source, WeightPrecision::kAsStored);
  };
  std::vector<std::shared_ptr<const PackedWeight>> all;
  all.push_back(must(pack(0, "a")));  // and memory for loading
  const uint64_t planned = ops->packed_bytes(kType, kRows, kCols, WeightPrecision::kAsStored);
  all.clear();
  const uint64_t before = device->free_bytes();
  device->allocations.clear();
  for (int64_t i = 0; i < kAlike; ++i) {  // two tensors in turn
    all.push_back(must(pack(i, "a")));
    all.push_back(must(pack(kAlike + i, "b")));
    EXPECT_EQ(all.back()->n_bytes, planned);
  }
  EXPECT_EQ(device->allocations, (std::map<std::string, int>{{"a", 1}, {"b", 1}}));
  EXPECT_EQ(before - device->free_bytes(), 2 * kAlike * planned);
  std::vector<float> got(kCols), want(kCols);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& from = bytes[i % 2 * kAlike + i / 2];
    for (int64_t r = 0; r < kRows; ++r) {
      dequantize_row_ref(kType, from.data() + static_cast<uint64_t>(r) * dtype_row_bytes(kType, kCols), want.data(),
                         kCols);
      ops->unpack_row(*all[i], r, got.data());
      ASSERT_EQ(got, want) << "matrix " << i << ", row " << r;
    }
  }
  all.resize(1);
  EXPECT_EQ(before - device->free_bytes(), kAlike * planned) << "b's went with its last";
  all.push_back(must(pack(0, "a")));
  EXPECT_EQ(device->allocations["a"], 2) << "that of the first tensor is full";
  all.clear();
  EXPECT_EQ(device->free_bytes(), before);
}

// What was begun and failed leaves nothing behind, and the next load nothing to trip over.
TEST(DevicePack, ATensorThatFailsGivesItsMemoryBack) {
  if (on_gpu()) GTEST_SKIP() << "needs a device that is almost full";
  constexpr int64_t kRows = 16, kCols = 64;
  const auto ops = must(CudaOps::create(make_host_device({.memory_bytes = 40 << 20}), 1));
  const auto pack = [&](float value, int64_t n_alike) {
    WeightSource source = source_of(quantized(DType::kF32, std::vector<float>(kRows * kCols, value), kRows, kCols),
                                    DType::kF32, kRows, kCols);
    source.n_alike = n_alike;
    return ops->pack(source, WeightPrecision::kAsStored);
  };
  EXPECT_TRUE(pack(1, 1).ok());
  const uint64_t before = ops->available_bytes();
  for (const int64_t n_alike : {int64_t{2} << 20, int64_t{1} << 60}) {
    const auto result = pack(1, n_alike);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kOutOfMemory);
    EXPECT_NE(result.error().message.find("some.weight"), std::string::npos) << result.error().message;
  }
  {
    const auto first = must(pack(1, 3));
    EXPECT_EQ(pack(NAN, 3).error().code, ErrorCode::kNumeric);
    EXPECT_LT(ops->available_bytes(), before);
  }
  EXPECT_EQ(ops->available_bytes(), before);
  std::vector<float> row(kCols);
  const auto again = must(pack(2, 3));
  ops->unpack_row(*again, kRows - 1, row.data());
  EXPECT_EQ(row, std::vector<float>(kCols, 2));
  EXPECT_EQ(before - ops->available_bytes(), 3 * again->n_bytes);
}

TEST(DevicePack, RefusesRowsThatNoBlockCanHold) {
  if (on_gpu()) GTEST_SKIP() << "needs a device of little shared memory";
  HostDeviceOptions options;
  options.max_shared_bytes = 16 << 10;
  const auto ops = host_ops(options);
  const std::vector<float> values(8192);
  const auto result =
      ops->pack(source_of(quantized(DType::kF32, values, 1, 8192), DType::kF32, 1, 8192), WeightPrecision::kAsStored);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace glimpse::cuda
