// The list of kernels, for those who launch them: names, threads, arguments and shared memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/cuda/args.h"

namespace glimpse::cuda {

enum class Kernel : int {
#define GLIMPSE_CUDA_KERNEL(name, Args, threads, blocks, order, call) name,
#include "kernels/cuda/kernels.inc"
#undef GLIMPSE_CUDA_KERNEL
  kCount
};
constexpr int kKernels = static_cast<int>(Kernel::kCount);

/// Whether a kernel waits for earlier launches itself (layer.h, dependency_wait()) and so may begin before these have
/// ended.
enum class LaunchOrder { kOrdered, kWaits };

struct KernelInfo {
  const char* name;
  int n_threads;
  int blocks_per_sm;  // what the compiler was asked to leave room for
  size_t args_bytes;
  LaunchOrder order;
};
const KernelInfo& kernel_info(Kernel kernel);

/// Kernels of a format, one of device_format(). columns: of gemv_columns(). There is no gemm_kernel of F32.
Kernel gemv_kernel(Format format, int columns);
Kernel gemm_kernel(Format format);
/// The kernel for products of one column with matrices of two formats; kCount: there is none.
Kernel gemv_kernel(Format first, Format second);
/// The formats of a kernel for products of one column, often twice the same; nullopt: it is another kernel.
struct FormatPair {
  Format first, second;
};
std::optional<FormatPair> formats_of_gemv(Kernel kernel);
/// The same of warpgroups, for devices that have them; activations are those of Kernel::rows_tiled.
/// columns: of gemm_warpgroup_columns().
Kernel gemm_warpgroup_kernel(Format format, int columns);
/// Columns per block, 64, 128 or 256, for n columns and so many groups of rows: the wider ones multiply what a weight
/// becomes with more, where there are enough of them for the device. clusters: whether blocks may share their copies.
/// Results have the same bits.
int gemm_warpgroup_columns(Format format, int64_t row_groups, int64_t n, int n_multiprocessors, bool clusters);
/// Blocks of a cluster that share their copies of activations: 2 where that saves something, else 1. columns: per
/// block; others: blocks in the other dimensions of the grid. The groups of rows must then be rounded up to a multiple
/// of it: a block without rows copies, and stores nothing. Results have the same bits.
int gemm_warpgroup_cluster(int columns, int64_t row_groups, int64_t others, int n_splits, int n_multiprocessors);
/// Column tiles that a product of warpgroups sums up by themselves: all of them, where they are not very many, else an
/// even number. A row's bits depend on it, so it depends on the matrix alone. Blocks are then of at most 128 columns.
int gemm_chunk_tiles(int column_tiles);
/// Blocks that are to share the chunks of each output, of `blocks` that otherwise have all of them.
int gemm_splits(int64_t blocks, int column_tiles, int n_multiprocessors);
Kernel pack_kernel(Format format);
Kernel embed_kernel(Format format);
/// Columns per block of matrix-vector products, 1, 4 or 8, for n columns: so many that all read the weights together,
/// where shared memory has room for them.
int gemv_columns(Format format, int64_t n, int column_tiles, int max_shared_bytes);
/// Blocks that share the pairs of a launch of matrix-vector products, for each of `groups` groups of columns: together
/// two to a multiprocessor, which leaves room for one of the launch behind, and does not prepare columns too often.
int64_t gemv_blocks(int64_t n_pairs, int64_t groups, int n_multiprocessors);
/// Query heads per block, of `group` that share keys: one where the device has room for the blocks that makes, because
/// then a block is done soonest, else several, so that keys are read once for them. `blocks`: rows times key/value
/// heads times chunks of keys.
int attend_heads(CacheType type, int group, int64_t blocks, int n_multiprocessors);
/// heads: of attend_heads().
Kernel attend_rows_kernel(CacheType type, int heads);
/// Attention of many rows: the smallest kernel for rows of padded_dim values (at most 128), the rows of a block, and
/// its shared memory. warpgroups: for devices that have them.
struct AttendMany {
  Kernel kernel;
  int rows, shared_bytes;
};
AttendMany attend_many(CacheType type, int padded_dim, bool warpgroups);

/// Dynamic shared memory that a launch needs.
int gemv_shared_bytes(Format format, int columns, int column_tiles);
int gemm_shared_bytes();
int gemm_warpgroup_shared_bytes(int columns);
/// Values of a row of rows_bf16, or of rows_tiled where `tiled`, times their number.
int64_t rows_size(bool tiled, int64_t n, int64_t ld);
/// Blocks of a launch of rows_bf16 or rows_tiled.
int64_t rows_blocks(int64_t n);
int attend_rows_shared_bytes(int heads, int padded_dim);
int sample_shared_bytes();
/// Of choose_experts and sort_columns.
int route_shared_bytes(int n_experts);

/// The kernel as the CUDA runtime launches it: the address of its __global__ function. In builds with CUDA only.
const void* device_function(Kernel kernel);
/// The kernel as the host executor runs it. In the host library only.
using HostFunction = void (*)(const void* args);
HostFunction host_function(Kernel kernel);

// Shapes of launches, for those who split work.
constexpr int kKeysPerSplit = 128;         // keys of a chunk of attend_rows
constexpr int kGemmPairsPerBlock = 8;      // pairs of row tiles; of both kinds of matrix products
constexpr int kGemmColumnsPerBlock = 128;  // of gemm_kernel()
constexpr int kGemmBlockResults = kGemmPairsPerBlock * 16 * kGemmColumnsPerBlock;
constexpr int64_t kMaxDeviceHeadDim = 128;

}  // namespace glimpse::cuda
