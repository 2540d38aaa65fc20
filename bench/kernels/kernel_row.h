// One kernel at one shape: what it costs, and how to run it. Rows come from the lists that the kernels themselves are
// chosen from, so that a new kernel has its rows as soon as it has its line there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/probe/roofline.h"
#include "engine/base/cpu_features.h"
#include "engine/base/result.h"

namespace glimpse::bench {

/// A kernel with its operands in memory.
class KernelRun {
 public:
  virtual ~KernelRun() = default;
  /// Does the row's work once, on one thread, on operands that the last runs have not touched (as far as rotate_bytes
  /// reaches).
  virtual void run() = 0;
  /// Normalised mean squared error of its results against the reference kernel's, on a part of the work:
  /// sum((got - want)^2) / sum(want^2).
  virtual double nmse() = 0;
};

struct KernelRow {
  std::string kernel;  // "matmul_q4_k_int8x128k_avx512vnni"
  std::string shape;   // "2b/qkv_2048x1536/n:1"
  Isa isa = Isa::kRef;
  double flop = 0;   // of one run; 0 where memory alone is counted (norms, activations, conversions)
  double bytes = 0;  // of one run, every operand once
  Arithmetic arithmetic = Arithmetic::kBaseline;
  /// Operands for run(): weights, keys and values in as many copies as fill rotate_bytes, at least one.
  /// Errors: kOutOfMemory.
  std::function<Result<std::unique_ptr<KernelRun>>(uint64_t rotate_bytes)> prepare;

  std::string name() const { return kernel + "/" + shape; }
};

/// Rows of every kernel of matmul_kernels.inc, and of the conversion of activations.
std::vector<KernelRow> matmul_rows();
/// Rows of every kernel of attention_kernels.inc, and of storing keys and values.
std::vector<KernelRow> attention_rows();
/// Rows of the functions on rows of numbers: norms, rotation, activations, quantise and dequantise.
std::vector<KernelRow> elementwise_rows();
/// All of them.
std::vector<KernelRow> kernel_rows();
/// For each kernel the row with the least work.
std::vector<KernelRow> smallest_rows(const std::vector<KernelRow>& rows);

/// The least time that the roofline of one thread allows a row: max(bytes / B, FLOP / G).
double floor_seconds(const KernelRow& row, const Roofline& roofline);

/// n numbers with mean 0 and deviation 1, the same for the same seed.
std::vector<float> gaussian_numbers(int64_t n, uint32_t seed);
/// sum((got - want)^2) / sum(want^2); the numerator where the denominator is zero.
double normalised_error(const float* got, const float* want, int64_t n);

}  // namespace glimpse::bench
