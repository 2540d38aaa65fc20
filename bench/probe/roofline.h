// What this machine can do at this moment: how fast the threads read memory, and how fast they multiply and add in each
// arithmetic that the kernels use. Every percentage is of these two, so they are measured in the same process, just
// before what they are compared with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/cpu_features.h"
#include "engine/base/result.h"

namespace glimpse::bench {

/// Which instructions a kernel multiplies with.
enum class Arithmetic {
  kBaseline,     // mulps, addps: the scalar reference kernels
  kFmaAvx2,      // vfmadd231ps ymm
  kFmaAvx512,    // vfmadd231ps zmm
  kInt8Avx2,     // vpmaddubsw, vpaddw ymm
  kInt8AvxVnni,  // vpdpbusd ymm
  kInt8Vnni,     // vpdpbusd zmm
  kBf16,         // vdpbf16ps zmm
};
constexpr size_t kArithmetics = 7;
/// "f32 baseline", "f32 avx2", "f32 avx512", "int8 avx2", "int8 avxvnni", "int8 vnni", "bf16".
const char* arithmetic_name(Arithmetic arithmetic);
/// What an arithmetic needs.
Isa arithmetic_isa(Arithmetic arithmetic);
/// What integer kernels multiply with that need `isa`.
Arithmetic int8_arithmetic(Isa isa);

struct Roofline {
  int n_threads = 0;                                   // 0: not measured, or a GPU's
  double bytes_per_second = 0;                         // read, all threads together
  std::array<double, kArithmetics> flop_per_second{};  // all threads together; 0: not on this level

  double gpu_flop_per_second = 0;  // of a GPU, in every arithmetic; 0: these rates are a CPU's

  bool measured() const { return bytes_per_second > 0; }
  double rate(Arithmetic arithmetic) const { return flop_per_second[static_cast<size_t>(arithmetic)]; }
  /// The highest rate of int8, of float and of bfloat16 products; 0: there is none.
  double int8_rate() const;
  double f32_rate() const;
};

struct RooflineOptions {
  uint64_t n_bytes = uint64_t{256} << 20;  // read per pass: far more than any cache
  int passes = 20;                         // the best counts
  double seconds_per_rate = 0.002;         // of one pass: shorter than a time slice, so that some pass has all cores
  int rate_passes = 60;                    // the best counts
};

/// isa: the kernels' level; what is above it is not measured. Errors: kOutOfMemory; kInvalidArgument (sizes).
Result<Roofline> measure_roofline(Isa isa, int n_threads, const RooflineOptions& options);

}  // namespace glimpse::bench
