// Host side of the list of kernels: compiled by the ordinary compiler in every build that has CudaOps.
#include "kernels/cuda/kernels.h"

#include <algorithm>

#include "kernels/cuda/device_blocks.h"
#include "kernels/cuda/kernels_all.cuh"

namespace glimpse::cuda {
namespace {

constexpr KernelInfo kInfo[] = {
#define GLIMPSE_CUDA_KERNEL(name, Args, threads, blocks, order, call) \
  {#name, threads, blocks, sizeof(Args), LaunchOrder::order},
#include "kernels/cuda/kernels.inc"
#undef GLIMPSE_CUDA_KERNEL
};
static_assert(kKeysPerSplit == kChunkKeys);
static_assert(kMaxDeviceHeadDim == kMaxHeadDim);
static_assert(kGemmPairsPerBlock == kGemmPairs && kGemmColumnsPerBlock == kGemmColumns);
static_assert(kGemmPairsPerBlock == kWgPairs && kGemmColumnsPerBlock == kWgColumns);

// The kernels of a weight format; kCount where there are none.
struct FormatKernels {
  Format format = {};
  Kernel gemv[3] = {Kernel::kCount, Kernel::kCount, Kernel::kCount};  // of one column, of four, of eight
  Kernel pack = Kernel::kCount, embed = Kernel::kCount;
};
constexpr FormatKernels kFormats[] = {
#define GLIMPSE_CUDA_FORMAT(name, format)                                       \
  {Format::format,                                                              \
   {Kernel::gemv_##name##_1, Kernel::gemv_##name##_4, Kernel::gemv_##name##_8}, \
   Kernel::pack_##name,                                                         \
   Kernel::embed_##name},
#include "kernels/cuda/formats.inc"
#undef GLIMPSE_CUDA_FORMAT
};

// Products of one column with matrices of two formats.
struct PairKernel {
  FormatPair formats;
  Kernel kernel;
};
constexpr PairKernel kPairs[] = {
#define GLIMPSE_CUDA_FORMATS(a, first, b, second) {{Format::first, Format::second}, Kernel::gemv_##a##_##b},
#include "kernels/cuda/formats.inc"
#undef GLIMPSE_CUDA_FORMATS
};

// Products of many rows: floats have none.
struct GemmKernels {
  Format format = {};
  Kernel tiles = Kernel::kCount;
  Kernel warpgroups[3] = {Kernel::kCount, Kernel::kCount, Kernel::kCount};  // of 64 columns, of 128, of 256
};
constexpr GemmKernels kGemms[] = {
#define GLIMPSE_CUDA_WITHOUT_F32
#define GLIMPSE_CUDA_FORMAT(name, format) \
  {Format::format,                        \
   Kernel::gemm_##name,                   \
   {Kernel::gemm_warpgroup_##name##_64, Kernel::gemm_warpgroup_##name##_128, Kernel::gemm_warpgroup_##name##_256}},
#include "kernels/cuda/formats.inc"
#undef GLIMPSE_CUDA_FORMAT
#undef GLIMPSE_CUDA_WITHOUT_F32
};

constexpr bool has_kernels(Format format) {
  for (const FormatKernels& row : kFormats) {
    if (row.format == format) return true;
  }
  return false;
}
#define GLIMPSE_BLOCK_32(type, name) static_assert(has_kernels(device_format(DType::type)));
#define GLIMPSE_BLOCK_256 GLIMPSE_BLOCK_32
#include "kernels/quant/block_formats.inc"

template <class Row, size_t n>
Row find(const Row (&rows)[n], Format format) {
  for (const Row& row : rows) {
    if (row.format == format) return row;
  }
  return {};
}

}  // namespace

const KernelInfo& kernel_info(Kernel kernel) {
  return kInfo[static_cast<int>(kernel)];
}

Kernel gemv_kernel(Format format, int columns) {
  return find(kFormats, format).gemv[columns / 4];
}
Kernel gemv_kernel(Format first, Format second) {
  for (const PairKernel& row : kPairs) {
    if (row.formats.first == first && row.formats.second == second) return row.kernel;
  }
  return Kernel::kCount;
}
std::optional<FormatPair> formats_of_gemv(Kernel kernel) {
  for (const FormatKernels& row : kFormats) {
    if (row.gemv[0] == kernel) return FormatPair{row.format, row.format};
  }
  for (const PairKernel& row : kPairs) {
    if (row.kernel == kernel) return row.formats;
  }
  return std::nullopt;
}
Kernel pack_kernel(Format format) {
  return find(kFormats, format).pack;
}
Kernel embed_kernel(Format format) {
  return find(kFormats, format).embed;
}
Kernel gemm_kernel(Format format) {
  return find(kGemms, format).tiles;
}
Kernel gemm_warpgroup_kernel(Format format, int columns) {
  return find(kGemms, format).warpgroups[columns / 128];
}

int gemv_columns(Format format, int64_t n, int column_tiles, int max_shared_bytes) {
  const auto fits = [&](int columns) { return gemv_shared_bytes(format, columns, column_tiles) <= max_shared_bytes; };
  if (n > 4 && fits(8)) return 8;
  return n > 1 && fits(4) ? 4 : 1;
}
int64_t gemv_blocks(int64_t n_pairs, int64_t groups, int n_multiprocessors) {
  const int64_t room = 2 * int64_t{n_multiprocessors};
  return std::clamp<int64_t>((room + groups - 1) / groups, 1, n_pairs);
}
int attend_heads(CacheType type, int group, int64_t blocks, int n_multiprocessors) {
  const int64_t room = 2 * int64_t{n_multiprocessors};
  if (blocks * group <= room) return 1;
  if (type != CacheType::kF32 && blocks * ((group + 3) / 4) <= room) return 4;
  return 8;
}
Kernel attend_rows_kernel(CacheType type, int heads) {
  switch (type) {
    case CacheType::kBf16:
      return heads == 1   ? Kernel::attend_rows_bf16_1
             : heads == 4 ? Kernel::attend_rows_bf16_4
                          : Kernel::attend_rows_bf16_8;
    case CacheType::kF16:
      return heads == 1   ? Kernel::attend_rows_f16_1
             : heads == 4 ? Kernel::attend_rows_f16_4
                          : Kernel::attend_rows_f16_8;
    case CacheType::kQ8_0:
      return heads == 1 ? Kernel::attend_rows_q8_1 : heads == 4 ? Kernel::attend_rows_q8_4 : Kernel::attend_rows_q8_8;
    case CacheType::kF32:
      break;
  }
  return heads == 1 ? Kernel::attend_rows_f32_1 : Kernel::attend_rows_f32_8;
}
AttendMany attend_many(CacheType type, int padded_dim, bool warpgroups) {
  const bool half = type == CacheType::kF16, q8 = type == CacheType::kQ8_0;
  const auto tiles = [&](Kernel of_bf16, Kernel of_f16, Kernel of_q8, int shared_bytes) {
    return AttendMany{q8 ? of_q8 : half ? of_f16 : of_bf16, kTileQueries, shared_bytes};
  };
  const auto wide = [&](Kernel of_bf16, Kernel of_f16, int shared_bytes) {
    return AttendMany{half ? of_f16 : of_bf16, kAwQueries, shared_bytes};
  };
  using enum Kernel;
  if (padded_dim <= 32) {
    return tiles(attend_tiles_bf16_32, attend_tiles_f16_32, attend_tiles_q8_32, attend_tiles_shared<32>());
  }
  const bool wg = warpgroups && !q8;  // their ring holds a cache's own bits
  if (padded_dim <= 64) {
    if (wg) return wide(attend_warpgroup_bf16_64, attend_warpgroup_f16_64, AwRing<64>::kSharedBytes);
    return tiles(attend_tiles_bf16_64, attend_tiles_f16_64, attend_tiles_q8_64, attend_tiles_shared<64>());
  }
  if (padded_dim <= 80) {
    if (wg) return wide(attend_warpgroup_bf16_80, attend_warpgroup_f16_80, AwRing<80>::kSharedBytes);
    return tiles(attend_tiles_bf16_80, attend_tiles_f16_80, attend_tiles_q8_80, attend_tiles_shared<80>());
  }
  if (wg) return wide(attend_warpgroup_bf16_128, attend_warpgroup_f16_128, AwRing<128>::kSharedBytes);
  return tiles(attend_tiles_bf16_128, attend_tiles_f16_128, attend_tiles_q8_128, attend_tiles_shared<128>());
}

int gemv_shared_bytes(Format format, int columns, int column_tiles) {
  return gemv_shared(planes_of(format), columns, column_tiles).total;
}
int gemm_shared_bytes() {
  return kGemmSharedBytes;
}
int gemm_warpgroup_shared_bytes(int columns) {
  if (columns == 64) return WgRing<64>::kSharedBytes;
  return columns == 128 ? WgRing<128>::kSharedBytes : WgRing<256>::kSharedBytes;
}
int gemm_warpgroup_columns(Format format, int64_t row_groups, int64_t n, int n_multiprocessors, bool clusters) {
  WeightView view;
  const auto weight_bytes = static_cast<int64_t>(lay_out(format, kWgPairs * 16, 2 * kTileColumns, view) / 2);
  // Cycles for one of the column tiles: of matrix units at three quarters of their rate, but no fewer than weights take
  // to become operands; or until L2 has handed out all bytes, 24 a cycle and multiprocessor. Predicted.
  const auto time = [&](int64_t columns) {
    constexpr int64_t kOperands = 700;
    const int64_t blocks = row_groups * ((n + columns - 1) / columns), sharing = clusters && columns > 64 ? 2 : 1;
    const int64_t rounds = (blocks + n_multiprocessors - 1) / n_multiprocessors;
    const int64_t n_bytes = blocks * (weight_bytes + columns * kTileColumns * 2 / (row_groups > 1 ? sharing : 1));
    return std::max(rounds * std::max(columns * 32 / 3, kOperands), n_bytes / (int64_t{24} * n_multiprocessors));
  };
  int best = n <= 64 ? 64 : 256;
  for (const int columns : {128, 64}) {
    if (time(columns) < time(best)) best = columns;
  }
  return best;
}
int gemm_warpgroup_cluster(int columns, int64_t row_groups, int64_t others, int n_splits, int n_multiprocessors) {
  if (columns < kGemmColumnsPerBlock || row_groups < 2) return 1;
  if (row_groups % 2 == 0) return 2;
  // One group more, where it makes the device no later; shared sums have memory for blocks with rows alone.
  const auto rounds = [&](int64_t groups) { return (groups * others + n_multiprocessors - 1) / n_multiprocessors; };
  return n_splits == 1 && rounds(row_groups + 1) == rounds(row_groups) ? 2 : 1;
}
int gemm_chunk_tiles(int column_tiles) {
  constexpr int kLong = 48, kTiles = 12;
  if (column_tiles <= kLong) return column_tiles;
  const int n_chunks = (column_tiles + kTiles - 1) / kTiles;
  return (column_tiles + 2 * n_chunks - 1) / (2 * n_chunks) * 2;
}
int gemm_splits(int64_t blocks, int column_tiles, int n_multiprocessors) {
  constexpr int64_t kAround = 5, kMerge = 4;  // of a block, in times of a tile; predicted
  const int chunk = gemm_chunk_tiles(column_tiles), n_chunks = (column_tiles + chunk - 1) / chunk;
  const auto rounds = [&](int64_t n) { return (n + n_multiprocessors - 1) / n_multiprocessors; };
  const int64_t whole = rounds(blocks) * (column_tiles + kAround);
  return rounds(blocks * n_chunks) * (chunk + kAround) + kMerge < whole ? n_chunks : 1;
}
int64_t rows_size(bool tiled, int64_t n, int64_t ld) {
  return (tiled ? tiled_rows(n) : n) * ld;
}
int64_t rows_blocks(int64_t n) {
  constexpr int64_t rows = kRowThreads / kWarp;
  return (n + rows - 1) / rows;
}
int attend_rows_shared_bytes(int heads, int padded_dim) {
  return attend_shared(heads, padded_dim).total;
}
int route_shared_bytes(int n_experts) {
  return 2 * n_experts * static_cast<int>(sizeof(int));
}
int sample_shared_bytes() {
  return static_cast<int>(sizeof(SampleShared));
}

}  // namespace glimpse::cuda
